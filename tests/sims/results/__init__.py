"""Tests of ``sims/results``."""
