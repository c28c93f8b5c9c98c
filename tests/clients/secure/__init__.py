"""Tests of a party's part in secure sums."""
