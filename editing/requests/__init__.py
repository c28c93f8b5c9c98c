"""Edit requests, and how they are read, compared and reworded."""
