"""Tests of the search for hyperparameters."""
