"""Tests of ``editing/algebra``."""
