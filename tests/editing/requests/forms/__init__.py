"""Tests of ``editing/requests/forms``."""
