"""Tests of what brings a federation up."""
