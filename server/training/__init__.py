"""A run that trains a hypernetwork in the place of editing."""
