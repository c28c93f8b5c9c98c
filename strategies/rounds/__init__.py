"""A round at the server: exchanges, party registry, aggregation, limits, memory."""
