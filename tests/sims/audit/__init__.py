"""Tests of ``sims/audit``."""
