"""Tests of ``editing/evaluation``."""
