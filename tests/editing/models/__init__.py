"""Tests of ``editing/models``."""
