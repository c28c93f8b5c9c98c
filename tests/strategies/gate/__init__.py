"""Tests of ``strategies/gate``."""
