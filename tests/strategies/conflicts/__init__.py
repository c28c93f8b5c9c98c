"""Tests of ``strategies/conflicts``."""
