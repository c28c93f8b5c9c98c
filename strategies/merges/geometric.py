"""Solve, then average by the angles between parties: Model Stock and Karcher's mean."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext


class ModelStockMerge(Merge):
    """Shrink the average of the parties' deltas by how much they point apart.

    The paper interpolates between the weight ``W₀`` and the average of the parties'
    weights ``W₀ + deltaⱼ``, so ``W₀`` cancels: ``delta = t · Σ deltaⱼ / m`` with
    ``t = m c / (1 + (m − 1) c)`` and ``c`` the mean cosine between two deltas. A single
    party gets its own delta.

    Attributes:
        angles: Whether there is one ``c`` for the layer, as in the paper and by default
            in mergekit, or one for each row (its ``filter_wise``). The paper has one
            angle for all pairs; their mean cosine is mergekit's reading of it.
        clamp: Whether ``t`` is 0 where ``c`` is negative: deltas that point away from
            each other. The paper knows no such angles, and mergekit reverses the
            average there.
    """

    name: Literal["model-stock"] = "model-stock"
    angles: Literal["layer", "row"] = "layer"
    clamp: bool = True
    paper: ClassVar[str] = "arXiv:2403.19522"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Add up deltas and their directions, one at a time."""
        count = len(statistics)
        deltas = system.solve_each(statistics)
        total = next(deltas)
        if count == 1:
            return total
        directions, lengths = self._direction(total)
        for delta in deltas:
            direction, length = self._direction(delta)
            total = total + delta
            directions, lengths = directions + direction, lengths + length
        # ‖Σ uⱼ‖² = Σ ‖uⱼ‖² + m (m − 1) c, and only a delta of 0 has no direction.
        cosine = (self._square(directions) - lengths) / (count * (count - 1))
        scale = count * cosine / (1 + (count - 1) * cosine)
        if self.clamp:
            scale = torch.where(cosine > 0, scale, 0.0)
        return scale * total / count

    def _square(
        self, matrix: Float[Tensor, "d_out d_in"]
    ) -> Float[Tensor, "rows_or_1 1"]:
        squares = matrix.square().sum(dim=1, keepdim=True)
        return squares if self.angles == "row" else squares.sum(dim=0, keepdim=True)

    def _direction(
        self, delta: Float[Tensor, "d_out d_in"]
    ) -> tuple[Float[Tensor, "d_out d_in"], Float[Tensor, "rows_or_1 1"]]:
        """Return a delta of unit length, and its squared length, which may be 0."""
        square = self._square(delta)
        unit = delta / torch.where(square > 0, square, 1.0).sqrt()
        return unit, (square > 0).double()


class KarcherMerge(Merge):
    """Average the parties' whole weights along the sphere.

    The direction of the merged weight is the Karcher mean of the directions of
    ``Wⱼ = W + deltaⱼ``: the point ``u`` where ``Σ log_u(Wⱼ / ‖Wⱼ‖) = 0``. Its length is
    their mean length. Angles between deltas alone would be another merge, so the weight
    ``W`` as the round begins is needed. Every step stays in the span of the ``Wⱼ``, so
    it reads their products alone; the deltas of all parties are in memory for these.

    Attributes:
        steps: How many steps the search takes at most; mergekit's default.
        tolerance: Length of a step, in radians, below which it ends. Mergekit's default
            is 1e-5; solves are in float64 here.
    """

    name: Literal["karcher"] = "karcher"
    steps: PositiveInt = 10
    tolerance: PositiveFloat = 1e-10
    paper: ClassVar[str] = "arXiv:2603.04972"
    needs: ClassVar[Literal["sum", "each"]] = "each"
    reads_weight: ClassVar[bool] = True

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,
    ) -> Float[Tensor, "d_out d_in"]:
        """Find the mean in the parties' coordinates, then add up."""
        weight = context.require_weight(self.name).double()
        deltas = torch.empty(len(statistics), *weight.shape, dtype=torch.float64)
        for place, delta in enumerate(system.solve_each(statistics)):
            deltas[place] = delta
        flat, base = deltas.flatten(1), weight.flatten()
        along = flat @ base
        products = flat @ flat.mT + along + along[:, None] + base @ base
        lengths = products.diagonal().sqrt()
        cosines = products / lengths.outer(lengths)
        mean = find_mean_direction(cosines, self.steps, self.tolerance)
        shares = lengths.mean() * mean / lengths
        merged: Tensor = torch.einsum("p,poi->oi", shares, deltas)
        return merged + (shares.sum() - 1) * weight


def find_mean_direction(
    cosines: Float[Tensor, "m m"], steps: int, tolerance: float
) -> Float[Tensor, " m"]:
    """Find the Karcher mean of unit vectors, as a combination ``u = Σ aⱼ xⱼ`` of them.

    Each step is ``u ← cos‖T‖ u + sin‖T‖ T/‖T‖`` with ``T`` the mean of
    ``log_u(xⱼ) = θⱼ / sin θⱼ (xⱼ − cos θⱼ u)``, ``cos θⱼ = ⟨u, xⱼ⟩``.

    Args:
        cosines: ``⟨xᵢ, xⱼ⟩``.
        steps: How many are taken at most.
        tolerance: ``‖T‖`` at which the search ends.
    """
    count = len(cosines)
    mean = _unit(torch.full((count,), 1 / count, dtype=cosines.dtype), cosines)
    for _ in range(steps):
        along = (cosines @ mean).clamp(-1, 1)
        ratio = 1 / torch.sinc(along.acos() / torch.pi)
        tangent = (ratio - (ratio @ along) * mean) / count
        length = (tangent @ cosines @ tangent).clamp(min=0).sqrt()
        if length < tolerance:
            break
        mean = _unit(length.cos() * mean + length.sin() * tangent / length, cosines)
    return mean


def _unit(
    combination: Float[Tensor, " m"], cosines: Float[Tensor, "m m"]
) -> Float[Tensor, " m"]:
    unit: Tensor = combination / (combination @ cosines @ combination).sqrt()
    return unit
