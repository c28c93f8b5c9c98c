"""Tests of the studies of later rounds."""
