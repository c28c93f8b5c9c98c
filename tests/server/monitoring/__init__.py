"""Tests of ``server/monitoring``."""
