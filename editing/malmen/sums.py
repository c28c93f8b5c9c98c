"""What parties send of the losses of a training step: sums over texts."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over texts; those of two parties add up.

    Attributes:
        general: Of ``−log p`` by token, over the texts in other words.
        local: Of the divergence by token, over the texts about something else.
        texts: The number of all texts.
        gradients: ``∂L/∂W`` by layer, in float64.
    """

    general: float
    local: float
    texts: int
    gradients: Mapping[int, Float[Tensor, "_ _"]]

    def __add__(self, other: "LossSums") -> "LossSums":
        """Add both up, layer by layer."""
        gradients = {
            layer: each + other.gradients[layer]
            for layer, each in self.gradients.items()
        }
        return LossSums(
            self.general + other.general,
            self.local + other.local,
            self.texts + other.texts,
            gradients,
        )
