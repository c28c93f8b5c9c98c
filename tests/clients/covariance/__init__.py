"""Tests of what runs next to private requests."""
