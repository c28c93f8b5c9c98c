"""Tests of ``sims/sizes``."""
