"""Tests of ``editing/editors``."""
