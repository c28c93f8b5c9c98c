"""The one linear system that every editor solves.

    delta = (B + B₀) U (Uᵀ S U + A)⁻¹ Uᵀ

with ``S`` and ``B`` the gram and cross of the edits. An editor chooses the prior ``A``,
the orthonormal basis ``U`` of the directions of keys that may change (all of them if
there is none), and ``B₀``, which is there whoever edits. Nothing else is read of the
parties than their sums, so what is solved for their sum is what one machine solves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from editing.algebra.influence import expected_rounding
from editing.algebra.solving import Prior, solve_each, solve_sum
from editing.algebra.statistics import LayerStatistics, Sums


@dataclass(frozen=True, eq=False)
class LayerState:
    """All that an editor knows of a layer, besides the statistics of a round.

    Attributes:
        prior: ``C₀``, ``λ``, and the grams ``M`` of earlier rounds with ``γ``.
        total: ``W − W₀``, all updates of earlier rounds; None before the first.
        kept: What the editor keeps from round to round, by name.
    """

    prior: Prior
    total: Float[Tensor, "d_out d_in"] | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Solver(Protocol):
    """What a layer's delta is solved by: a system, or more than that."""

    def solve(self, statistics: LayerStatistics) -> Float[Tensor, "d_out d_in"]:
        """Solve for one sum."""


@dataclass(frozen=True, eq=False)
class System:
    """What is solved for a layer in a round.

    Attributes:
        prior: ``A``, of the width of the basis.
        basis: ``U``; None for all directions.
        cross: ``B₀``; None for nothing.
    """

    prior: Prior
    basis: Float[Tensor, "d_in rank"] | None = None
    cross: Float[Tensor, "d_out d_in"] | None = None

    def solve(self, statistics: LayerStatistics) -> Float[Tensor, "d_out d_in"]:
        """Solve for one sum; one that is not stable is an `IllConditionedError`."""
        (delta,) = self.solve_each([statistics])
        return delta

    def solve_each(
        self, statistics: Sequence[LayerStatistics]
    ) -> Iterator[Float[Tensor, "d_out d_in"]]:
        """Solve for parties one by one; see `editing.algebra.solving.solve_each`."""
        for delta in solve_each([self.enter(each) for each in statistics], self.prior):
            yield self.leave(delta)

    def solve_sum(
        self, statistics: Sequence[LayerStatistics], weights: Sequence[float]
    ) -> Float[Tensor, "d_out d_in"]:
        """Compute ``Σ wⱼ deltaⱼ``; see `editing.algebra.solving.solve_sum`."""
        parts = [self.enter(each) for each in statistics]
        return self.leave(solve_sum(parts, self.prior, weights))

    def expected_rounding(
        self,
        statistics: LayerStatistics,
        delta: Float[Tensor, "d_out d_in"],
        epsilon: float,
    ) -> float | None:
        """Estimate what rounding moves; see `editing.algebra.influence`."""
        part = statistics if self.basis is None else project(statistics, self.basis)
        inner = delta if self.basis is None else delta @ self.basis
        return expected_rounding(part, self.prior, inner, epsilon)

    def enter(self, statistics: LayerStatistics) -> LayerStatistics:
        """Write statistics in the basis, with what is added to them."""
        part = statistics
        if self.cross is not None:
            gram = self.cross.new_zeros(self.cross.shape[1], self.cross.shape[1])
            part += LayerStatistics.of_sums(gram, self.cross, 0)
        return part if self.basis is None else project(part, self.basis)

    def leave(self, delta: Float[Tensor, "d_out rank"]) -> Float[Tensor, "d_out d_in"]:
        """Write a solution in all directions again."""
        return delta if self.basis is None else delta @ self.basis.mT


def project(
    statistics: LayerStatistics, basis: Float[Tensor, "d_in rank"]
) -> LayerStatistics:
    """Compute ``Uᵀ S U`` and ``B U``: of rows ``K U``, without any product of keys."""
    sums = statistics.sums
    return replace(
        statistics,
        keys=statistics.keys @ basis,
        sums=None
        if sums is None
        else Sums(basis.mT @ sums.gram @ basis, sums.cross @ basis),
    )
