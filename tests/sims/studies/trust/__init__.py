"""Tests of the study `trust`."""
