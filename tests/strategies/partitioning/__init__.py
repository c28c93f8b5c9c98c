"""Tests of ``strategies/partitioning``."""
