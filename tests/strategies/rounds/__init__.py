"""Tests of ``strategies/rounds``."""
