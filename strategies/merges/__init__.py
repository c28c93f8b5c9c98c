"""Ways to turn the statistics of many parties into one delta."""
