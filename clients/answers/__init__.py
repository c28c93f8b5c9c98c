"""Rounds of editors that read keys and gradients at the answers' tokens."""
