"""Tests of ``sims/world``."""
