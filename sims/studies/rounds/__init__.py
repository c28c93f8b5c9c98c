"""Studies of what later rounds do to earlier ones."""
