"""Tests of ``sims/cli``."""
