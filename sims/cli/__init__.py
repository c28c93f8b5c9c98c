"""The commands of ``python -m sims``, one module a group."""
