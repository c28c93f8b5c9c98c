"""Tests of ``editing/base``."""
