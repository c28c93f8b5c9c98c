"""Tests of the simulations and their command line."""
