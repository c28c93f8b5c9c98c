"""MEMIT on one machine: targets, keys, residuals, layer by layer."""
