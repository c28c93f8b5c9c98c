"""The published forms of edit requests, one reader each."""
