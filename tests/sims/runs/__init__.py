"""Tests of ``sims/runs``."""
