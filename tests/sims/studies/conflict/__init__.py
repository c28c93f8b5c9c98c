"""Tests of ``sims/studies/conflict``."""
