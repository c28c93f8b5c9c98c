"""How values are made of keys and gradients at the answers' tokens.

    delta = (Σ v kᵀ) (Σ k kᵀ + ρ I)⁻¹

A rule says what ``v`` is, row by row, and how large ``ρ`` is. The sums over rows are
those of all parties, so a rule must make a row's value of the row itself and of what
all parties have alike: the moments of all rows, or a file.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.answers.moments import ByShape, Shape
from editing.answers.pairs import AnswerPairs
from editing.base.settings import Settings


@dataclass(frozen=True, slots=True)
class Given:
    """What all parties have alike, besides the rule.

    Attributes:
        moments: Of all parties' rows, of this round and those before; empty if the rule
            does not pool them.
        model_path: The model's files on this machine, next to which a file may be.
        hypernetwork: Its file on this machine; None for where the rule says.
    """

    moments: ByShape = field(default_factory=dict)
    model_path: str = ""
    hypernetwork: str | None = None


class AnswerRule(Settings):
    """How values are made of keys and gradients.

    Attributes:
        kind: The word that tells rules apart.
        pools: Whether values depend on the moments of all parties' rows, which are then
            summed in an exchange of their own.
    """

    kind: str
    pools: ClassVar[bool] = False

    @property
    def whitens(self) -> bool:
        """Whether moments need the gradients' outer products."""
        return False

    @property
    def files(self) -> Mapping[str, str]:
        """Digests of the files that values depend on, by what they are."""
        return {}

    def read_files(
        self,
        model_path: str,  # noqa: ARG002
        widths: Mapping[int, tuple[int, int]],  # noqa: ARG002
    ) -> dict[str, object]:
        """Read what a run needs of files, as fields of the rule: nothing as a rule.

        Args:
            model_path: The model's files on this machine.
            widths: ``d_out`` and ``d_in`` of each edited layer.
        """
        return {}

    @abstractmethod
    def values(
        self, pairs: Mapping[int, AnswerPairs], given: Given
    ) -> dict[int, Float[Tensor, "_ _"]]:
        """Compute ``v`` of each row, by layer, in float64.

        Args:
            pairs: By layer, of one party.
            given: What all parties have alike.
        """

    @abstractmethod
    def weight(self, layer: int) -> float:
        """Return ``ρ`` of a layer."""

    def statistics(
        self, pairs: Mapping[int, AnswerPairs], given: Given
    ) -> dict[int, LayerStatistics]:
        """Compute a layer's ``Σ k kᵀ`` and ``Σ v kᵀ``, which add up over parties."""
        values = self.values(pairs, given)
        return {
            layer: LayerStatistics.of_pairs(own.keys, values[layer])
            for layer, own in pairs.items()
        }

    def longest(self, shape: Shape, count: int) -> float:  # noqa: ARG002
        """Return what no row's ``‖v‖`` exceeds, of as many rows of a shape."""
        return math.inf

    def solve(
        self, layer: int, statistics: LayerStatistics
    ) -> Float[Tensor, "d_out d_in"]:
        """Solve for a layer's delta, in float64."""
        width = statistics.keys.shape[1]
        return solve_delta(statistics, ridge_prior(width, self.weight(layer)))


@lru_cache(maxsize=1)
def ridge_prior(width: int, weight: float) -> Prior:
    """Return ``ρ I``; layers of a width and a weight share it, with its factor."""
    return Prior(torch.eye(width, dtype=torch.float64), weight)
