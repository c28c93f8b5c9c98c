"""Solve, drop entries at random, and make up for them: DARE and DELLA."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.merges.ties import Fusion, Share, fuse

Rescale = Literal["probability", "l1", "none"]


class DroppingMerge(Merge):
    """Drop entries of each party's delta at random, then fuse what is left.

    A party's mask depends on the run's seed, the layer, the round and the party's
    number alone.

    Attributes:
        density: Share of each party's entries that is kept, on average. The papers try
            0.1 to 0.9; the middle is chosen here, and mergekit keeps all.
        rescale: How entries that are kept make up for those that are not. They are
            divided by the probability to be kept, or scaled so that the sum of absolute
            values stays (``l1``, what mergekit does), or left as they are. The papers
            divide.
        fusion: The sum of all parties, or the sum or the mean of the entries whose sign
            wins, as in `ties`.
        scale: Factor of the merged delta; mergekit's ``lambda``, 1 as there.
    """

    density: Share = 0.5
    rescale: Rescale = "probability"
    fusion: Fusion = "sum"
    scale: PositiveFloat = 1.0
    needs: ClassVar[Literal["sum", "each"]] = "each"
    draws: ClassVar[bool] = True

    @abstractmethod
    def keep_probability(
        self, delta: Float[Tensor, "d_out d_in"]
    ) -> Float[Tensor, "#d_out #d_in"]:
        """Return the probability of each entry to be kept."""

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,
    ) -> Float[Tensor, "d_out d_in"]:
        """Drop, rescale and fuse the parties' deltas, one at a time."""
        parties = context.number(statistics)
        deltas = zip(parties, system.solve_each(statistics), strict=True)
        kept = (self._drop(delta, context.generator(party)) for party, delta in deltas)
        return fuse(kept, self.fusion, self.scale)

    def _drop(
        self, delta: Float[Tensor, "d_out d_in"], generator: torch.Generator
    ) -> Float[Tensor, "d_out d_in"]:
        keep = self.keep_probability(delta)
        mask = torch.rand(delta.shape, generator=generator, dtype=torch.float64) < keep
        return apply_mask(delta, mask, keep, self.rescale)


class DareMerge(DroppingMerge):
    """Drop entries at random, all with one probability, and divide by it.

    ``delta = scale · Σ mⱼ deltaⱼ / density``, with ``mⱼ`` from Bernoulli(density). The
    sum is the paper's with task arithmetic, mergekit's ``dare_linear``.
    """

    name: Literal["dare"] = "dare"
    paper: ClassVar[str] = "arXiv:2311.03099"

    def keep_probability(
        self,
        delta: Float[Tensor, "d_out d_in"],  # noqa: ARG002 - the same for all entries
    ) -> Float[Tensor, "1 1"]:
        """Return the density."""
        return torch.full((1, 1), self.density, dtype=torch.float64)


class DellaMerge(DroppingMerge):
    """Drop entries at random, small ones with a larger probability.

    In each row, the probability to be kept grows evenly with the rank of the magnitude,
    from ``density − spread/2`` to ``density + spread/2``.

    Attributes:
        spread: How much likelier a row's largest entry is kept than its smallest: the
            paper's ``ε``, and twice that of mergekit, whose default is 0.15.
        fusion: The sum of all parties, or the sum or the mean of the entries whose sign
            wins, as in `ties`. The mean is the paper's.
    """

    name: Literal["della"] = "della"
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.3
    fusion: Fusion = "agreeing-mean"
    paper: ClassVar[str] = "arXiv:2406.11617"

    @model_validator(mode="after")
    def check_spread(self) -> "DellaMerge":
        """Refuse what is no probability.

        Raises:
            ValueError: If an entry is kept never, or more often than always.
        """
        low, high = self.density - self.spread / 2, self.density + self.spread / 2
        if not (low > 0 and high <= 1):
            raise ValueError(
                f"density ± spread/2 is {low:g} to {high:g}; a probability to be kept "
                "is above 0 and at most 1, so lower the spread"
            )
        return self

    def keep_probability(
        self, delta: Float[Tensor, "d_out d_in"]
    ) -> Float[Tensor, "d_out d_in"]:
        """Rank each row's magnitudes from 0 and spread the probabilities evenly."""
        ranks = delta.abs().argsort(dim=1, stable=True).argsort(dim=1).double()
        step = self.spread / max(delta.shape[1] - 1, 1)
        return ranks.mul_(step).add_(self.density - self.spread / 2)


def apply_mask(
    delta: Float[Tensor, "d_out d_in"],
    mask: Bool[Tensor, "d_out d_in"],
    keep: Float[Tensor, "#d_out #d_in"],
    rescale: Rescale,
) -> Float[Tensor, "d_out d_in"]:
    """Zero what the mask leaves out, and scale the rest to make up for it.

    Args:
        delta: A party's.
        mask: Which entries are kept.
        keep: With which probability they were.
        rescale: How to make up.
    """
    kept = delta * mask
    if rescale == "probability":
        return kept / keep
    size = kept.abs().sum()
    if rescale == "l1" and size > 0:
        kept *= delta.abs().sum() / size
    return kept
