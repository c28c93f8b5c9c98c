"""Tests of ``editing/files``."""
