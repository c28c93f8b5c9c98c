"""Search for the layers, λ and clamp of any model."""
