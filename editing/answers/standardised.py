"""From keys and gradients to values: what UltraEdit and StableEdit have in common.

    k̂, ĝ = standardised key and gradient
    v = −η ‖k̂‖² ĝ

by the moments of all parties' rows, this round's and those of earlier rounds.
UltraEdit (arXiv 2505.14679) standardises entry by entry. StableEdit (arXiv 2605.11836)
whitens the gradients instead, ``ĝ = Σ^(−½) (g − ḡ)``, once there are more rows than
entries of a gradient and one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from editing.algebra.threads import threads_for
from editing.answers.moments import Moments, Shape
from editing.answers.pairs import AnswerPairs
from editing.answers.rule import AnswerRule, Given

EPSILON = torch.finfo(torch.float32).eps
"""Added to standard deviations, so that an entry that never varies is 0."""


class StandardisedRule(AnswerRule):
    """Standardise by the moments of all parties.

    Attributes:
        learning_rate: ``η``.
        ridge: ``ρ``.
        floor: The least eigenvalue of ``Σ``; None does not whiten.
    """

    kind: Literal["standardised"] = "standardised"
    learning_rate: PositiveFloat
    ridge: PositiveFloat
    floor: PositiveFloat | None = None
    pools: ClassVar[bool] = True

    @property
    def whitens(self) -> bool:
        """Whether moments need the gradients' outer products."""
        return self.floor is not None

    def values(
        self, pairs: Mapping[int, AnswerPairs], given: Given
    ) -> dict[int, Float[Tensor, "_ _"]]:
        """Compute ``v`` of each row, by layer, in float64."""
        made = {
            shape: _Normaliser.of(own, self, shape[0])
            for shape, own in given.moments.items()
        }
        return {
            layer: made[own.gradients.shape[1], own.keys.shape[1]].values(
                own, self.learning_rate
            )
            for layer, own in pairs.items()
        }

    def longest(self, shape: Shape, count: int) -> float:
        """Return what no row's ``‖v‖`` exceeds, whatever the rows are.

        Of ``n`` rows none has an entry further than ``√n`` standard deviations from the
        mean, nor a whitened gradient longer than ``√n``: ``‖v‖ ≤ η n d_in √(n d_out)``.

        Args:
            shape: Of the layer.
            count: Number of rows that the moments are sums over.
        """
        d_out, d_in = shape
        return float(self.learning_rate * count * d_in * (count * d_out) ** 0.5)

    def weight(self, layer: int) -> float:  # noqa: ARG002 - all have the same
        """Return ``ρ``."""
        return self.ridge


@dataclass(frozen=True, slots=True)
class _Normaliser:
    """Standardises rows of one shape.

    Attributes:
        mean: Of keys, then gradients.
        scale: Standard deviations.
        whitening: ``Σ^(−½)``; None standardises gradients entry by entry.
    """

    mean: Float[Tensor, " width"]
    scale: Float[Tensor, " width"]
    whitening: Float[Tensor, "d_out d_out"] | None

    @classmethod
    def of(cls, moments: Moments, rule: StandardisedRule, d_out: int) -> "_Normaliser":
        whitens = rule.floor is not None and moments.count > d_out + 1
        whitening = whiten(moments, rule.floor or 0.0) if whitens else None
        return cls(moments.mean, moments.std + EPSILON, whitening)

    def values(self, pairs: AnswerPairs, rate: float) -> Float[Tensor, "n d_out"]:
        d_in = pairs.keys.shape[1]
        keys = (pairs.keys - self.mean[:d_in]) / self.scale[:d_in]
        gradients = pairs.gradients - self.mean[d_in:]
        if self.whitening is None:
            gradients = gradients / self.scale[d_in:]
        else:
            gradients = gradients @ self.whitening
        return -rate * keys.square().sum(dim=1, keepdim=True) * gradients


def whiten(moments: Moments, floor: float) -> Float[Tensor, "d_out d_out"]:
    """Compute ``Σ^(−½)`` in float64, with ``Σ = scatter / (n − d_out − 1)``.

    Args:
        moments: Of more rows than entries of a gradient and one.
        floor: Smaller eigenvalues of ``Σ`` are raised to it.
    """
    scatter = moments.scatter
    free = moments.count - len(scatter) - 1
    with threads_for(len(scatter)):
        scales, vectors = torch.linalg.eigh((scatter + scatter.mT) / (2 * free))
        whitening: Tensor = vectors * scales.clamp(min=floor).rsqrt() @ vectors.mT
    return whitening
