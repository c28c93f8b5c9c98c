"""Tests of ``server/report``."""
