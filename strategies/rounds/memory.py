"""What later rounds remember of earlier ones: the dynamic covariance."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.solving import Prior
from editing.base.errors import InputError


@dataclass(frozen=True, slots=True)
class Memory:
    """One layer's prior, growing by the grams of the rounds gone by.

    The prior is ``λ·C₀ + γ·Σ past grams``: a key that was edited in an earlier round
    counts like plain text that the next update must leave alone.

    Attributes:
        covariance: ``C₀``, the mean key outer product over plain text.
        grams: The sum of the grams of all rounds so far.
        weight: ``λ``, MEMIT's ``mom2_update_weight``.
        memory_weight: ``γ``. 1 keeps an old edit as firmly as a new one is written
            (recursive least squares), as AlphaEdit's sequential MEMIT does;
            CollabEdit's published code uses ``λ``; 0 forgets, so that every round sees
            the plain text alone.
    """

    covariance: Float[Tensor, "d_in d_in"]
    grams: Float[Tensor, "d_in d_in"]
    weight: float
    memory_weight: float

    @classmethod
    def of_covariance(
        cls,
        covariance: Float[Tensor, "d_in d_in"],
        weight: float,
        memory_weight: float,
    ) -> "Memory":
        """Begin with nothing edited, in float64.

        Raises:
            InputError: If the prior weight is not positive, or the memory weight is
                negative.
        """
        if not (weight > 0 and memory_weight >= 0):
            raise InputError(
                "A positive prior weight and a memory weight of at least 0 were "
                f"wanted, got {weight} and {memory_weight}."
            )
        covariance = covariance.double()
        return cls(covariance, torch.zeros_like(covariance), weight, memory_weight)

    def prior(self) -> Prior:
        """Return what the next round solves against."""
        return Prior(self.covariance, self.weight, self.grams, self.memory_weight)

    def remember(self, gram: Float[Tensor, "d_in d_in"]) -> "Memory":
        """Add the gram of a round that is over: the sum over its parties."""
        return Memory(
            self.covariance, self.grams + gram, self.weight, self.memory_weight
        )
