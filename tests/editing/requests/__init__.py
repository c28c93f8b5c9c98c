"""Tests of ``editing/requests``."""
