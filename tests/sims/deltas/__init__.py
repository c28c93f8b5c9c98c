"""Tests of ``sims/deltas``."""
