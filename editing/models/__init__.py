"""Editable language models: loading, their parts, activations, token rows."""
