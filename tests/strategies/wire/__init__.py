"""Tests of ``strategies/wire``."""
