"""The laws of the system, in a tree that mirrors it."""
