"""Tests of ``sims/processes``."""
