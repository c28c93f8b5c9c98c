"""Seeded damage to files and messages, and what must come of it."""
