"""Passes of a search for targets: what no step changes runs once."""
