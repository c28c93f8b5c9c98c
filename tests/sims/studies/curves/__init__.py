"""Tests of the studies that draw a score against a number."""
