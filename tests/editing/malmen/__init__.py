"""Tests of ``editing/malmen``."""
