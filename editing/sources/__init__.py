"""Locate the model that comes with the system, and the files in a model's folder."""
