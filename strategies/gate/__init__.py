"""The release gate: a merged update is measured before it is accepted."""
