"""Tests of ``clients/answers``."""
