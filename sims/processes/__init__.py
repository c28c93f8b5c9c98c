"""Real processes: federations, SuperLinks, credentials, guarded programs."""
