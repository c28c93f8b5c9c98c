"""Duplicate and conflicting requests: blind tokens, policies, resolutions."""
