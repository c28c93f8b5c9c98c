"""Tests of ``sims/studies/lifelong``."""
