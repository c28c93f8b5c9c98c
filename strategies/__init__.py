"""How the statistics of many parties become one delta, round after round."""
