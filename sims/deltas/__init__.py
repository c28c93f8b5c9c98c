"""Deltas exported to model folders and adapters, inspected and reverted."""
