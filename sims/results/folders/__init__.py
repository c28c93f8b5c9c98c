"""The runs in folders of results, and what their reports say of all their cases."""
