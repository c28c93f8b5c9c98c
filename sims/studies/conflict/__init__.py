"""The study of conflicting requests: pairs, policies, types, detection."""
