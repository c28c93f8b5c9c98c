"""Tests of `sims.results.folders`."""
