"""What later rounds remember of earlier ones: the dynamic covariance."""

from dataclasses import dataclass, field, replace

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
        covariance: ``C₀ / scale``, the key outer products over plain text, in any
            precision; it may be mapped from a file.
        weight: ``λ``, MEMIT's ``mom2_update_weight``.
        memory_weight: ``γ``. 1 keeps an old edit as firmly as a new one is written
            (recursive least squares), as AlphaEdit's sequential MEMIT does;
            CollabEdit's published code uses ``λ``; 0 forgets, so that every round sees
            the plain text alone.
        scale: 1 for a mean, one over the number of tokens for a sum.
        grams: The sum of the grams of all rounds so far, in float64 and symmetric to
            the last bit; None before the first.
        keeps: Whether the prior is kept, with its factor, for the next solve.
    """

    covariance: Float[Tensor, "d_in d_in"]
    weight: float
    memory_weight: float
    scale: float = 1.0
    grams: Float[Tensor, "d_in d_in"] | None = None
    keeps: bool = True
    _kept: list[Prior] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse weights without sense.

        Raises:
            InputError: If the prior weight is not positive, or the memory weight is
                negative.
        """
        if not (self.weight > 0 and self.memory_weight >= 0):
            raise InputError(
                "A positive prior weight and a memory weight of at least 0 were "
                f"wanted, got {self.weight} and {self.memory_weight}."
            )

    @property
    def remembers(self) -> bool:
        """Whether an earlier round counts at all."""
        return self.memory_weight > 0

    def prior(self) -> Prior:
        """Return what the next round solves against; the same one if it is kept."""
        if self._kept:
            return self._kept[0]
        prior = Prior(
            self.covariance, self.weight, self.grams, self.memory_weight, self.scale
        )
        if self.keeps:
            self._kept.append(prior)
        return prior

    def remember(self, gram: Float[Tensor, "d_in d_in"]) -> "Memory":
        """Add the gram of a round that is over: the sum over its parties.

        Of a gram the upper half is read: its mirror image may differ in the last bit,
        where a product was formed by many threads. If nothing is remembered, this is
        the memory itself.
        """
        if not self.remembers:
            return self
        symmetric = gram.triu()
        symmetric += gram.triu(1).mT
        if self.grams is not None:
            symmetric += self.grams
        return replace(self, grams=symmetric)
