"""Tests of ``editing/sources``."""
