"""Tests of ``editing/hyperparameters``."""
