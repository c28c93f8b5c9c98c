"""Tests of ``sims/nodes``."""
