"""Tests of `sims.paper`."""
