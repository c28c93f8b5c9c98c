"""Tests of the steps after the solve."""
