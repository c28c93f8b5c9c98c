"""The generated world, and the small model that is trained on it."""
