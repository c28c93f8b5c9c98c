"""Tests of simulated clients in forked processes."""
