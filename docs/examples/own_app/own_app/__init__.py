"""A Flower app of one's own that edits together."""
