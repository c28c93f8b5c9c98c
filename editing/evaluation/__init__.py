"""Evaluation of edits: likelihoods, metrics as sums, generated texts."""
