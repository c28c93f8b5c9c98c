"""Tests of ``strategies/training``."""
