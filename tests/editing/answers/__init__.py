"""Tests of `editing.answers`."""
