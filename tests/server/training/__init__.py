"""Tests of ``server/training``."""
