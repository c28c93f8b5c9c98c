"""Tests of ``editing/memit``."""
