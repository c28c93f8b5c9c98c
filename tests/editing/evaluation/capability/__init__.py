"""Tests of ``editing/evaluation/capability``."""
