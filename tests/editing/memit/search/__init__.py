"""Tests of ``editing/memit/search``."""
