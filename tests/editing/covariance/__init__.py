"""Tests of ``editing/covariance``."""
