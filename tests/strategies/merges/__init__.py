"""Laws of the merges; each is also held to its naive definition."""
