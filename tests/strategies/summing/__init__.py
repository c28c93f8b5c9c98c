"""Tests of ``strategies/summing``."""
