"""Tests of what runs beside private requests."""
