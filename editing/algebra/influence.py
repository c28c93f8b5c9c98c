"""What one party does to a pooled solution: its weight, and the solution without it.

With ``A = prior + Σ S``, a party's rows ``K``, ``R`` and ``T = K A⁻¹`` give its
leverage ``tr(A⁻¹ KᵀK) = tr(K Tᵀ)``, its share ``Rᵀ T`` of the delta, and the delta of
all others,

    Δ₋ = Δ − (Rᵀ − Δ Kᵀ) (I − K Tᵀ)⁻¹ T

(Woodbury), so that leaving each of ``M`` parties out in turn costs no ``M`` solves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import solve_triangular

from editing.algebra.solving import (
    IllConditionedError,
    Prior,
    divide,
    factorise,
    solve_delta,
)
from editing.algebra.statistics import ROUNDING, LayerStatistics, Sums, pool


@dataclass(frozen=True, slots=True)
class Influence:
    """What a party weighs in a layer.

    Attributes:
        leverage: ``tr(A⁻¹ S)``: how many of the edits that the layer has room for are
            its own; from 0 to its number of edits.
        share: ``‖B A⁻¹‖``, the norm of its share of the delta.
    """

    leverage: float
    share: float


@dataclass(frozen=True, slots=True)
class PooledSolution:
    """A pooled solution that is kept by party; `solve_pooled` makes it.

    Attributes:
        parts: The parties' statistics.
        prior: What they were solved against.
        delta: ``Δ``, the solution for all.
        rows: ``T`` of each party; without rows for one that sent sums.
        factor: Of ``A``; None while the rows are few and no party sent sums.
    """

    parts: Sequence[LayerStatistics]
    prior: Prior
    delta: Float[Tensor, "d_out d_in"]
    rows: Sequence[Float[Tensor, "_ d_in"]]
    factor: Float[Tensor, "d_in d_in"] | None = None

    def influences(self) -> list[Influence]:
        """Weigh each party."""
        return [self._weigh(*pair) for pair in zip(self.parts, self.rows, strict=True)]

    def _weigh(self, part: LayerStatistics, rows: Float[Tensor, "_ d_in"]) -> Influence:
        leverage = (part.keys * rows).sum()
        share = part.residuals.mT @ rows
        if part.sums is not None and self.factor is not None:
            leverage += divide(part.sums.gram, self.factor).trace()
            share += divide(part.sums.cross, self.factor)
        return Influence(leverage.item(), share.norm().item())

    def without_each(self) -> Iterator[Float[Tensor, "d_out d_in"]]:
        """Solve without each party in turn; one delta is in memory at a time."""
        for place, (part, rows) in enumerate(zip(self.parts, self.rows, strict=True)):
            if part.sums is None:
                yield self._leave_out(part, rows)
                continue
            others = [*self.parts[:place], *self.parts[place + 1 :]]
            yield solve_delta(pool(others), self.prior) if others else 0 * self.delta

    def _leave_out(
        self, part: LayerStatistics, rows: Float[Tensor, "_ d_in"]
    ) -> Float[Tensor, "d_out d_in"]:
        missing = part.residuals.mT - self.delta @ part.keys.mT
        system = -part.keys @ rows.mT
        system.diagonal().add_(1)
        without: Tensor = self.delta - missing @ torch.linalg.solve(system, rows)
        return without


def solve_pooled(parts: Sequence[LayerStatistics], prior: Prior) -> PooledSolution:
    """Solve for the sum of the parties' statistics, and keep what each adds.

    A system that is not positive definite to rounding is an `IllConditionedError`, no
    party a `StatisticsError`.
    """
    pooled = pool(parts)
    sizes = [len(part.keys) for part in parts]
    if pooled.few and prior.factor is not None:
        # With unit residuals the solution is T itself.
        unit = torch.eye(sum(sizes), dtype=pooled.keys.dtype, device=pooled.keys.device)
        probe = LayerStatistics(pooled.keys, unit, pooled.count)
        rows = solve_delta(probe, prior)
        delta = pooled.residuals.mT @ rows
        return PooledSolution(parts, prior, delta, rows.split(sizes))
    factor = factorise(pooled.add_gram(prior.matrix()))
    if factor is None:
        raise IllConditionedError(
            "`prior + gram` is not positive definite: raise the prior weight, or "
            "estimate the covariance on more text."
        )
    solved = [divide(part.keys, factor) for part in parts]
    return PooledSolution(parts, prior, divide(pooled.cross, factor), solved, factor)


def residual_left(part: LayerStatistics, delta: Float[Tensor, "d_out d_in"]) -> float:
    """Compute ``‖R − K Δᵀ‖ / ‖R‖``: the share of its residuals that a party is left.

    Of sums, it is that of the part of ``R`` that keys can reach. It is 0 without
    residuals.
    """
    if part.sums is None:
        missing = (part.residuals - part.keys @ delta.mT).norm()
        whole = part.residuals.norm()
    else:
        missing, whole = _norms_of_sums(part.sums, delta)
    return (missing / whole).item() if whole > 0 else 0.0


def _norms_of_sums(
    sums: Sums, delta: Float[Tensor, "d_out d_in"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute ``‖P R − K Δᵀ‖`` and ``‖P R‖``, ``P`` the projection on the keys."""
    gram, cross = sums.gram, sums.cross
    shift = ROUNDING * gram.norm() + torch.finfo(gram.dtype).tiny
    shifted = gram.clone()
    shifted.diagonal().add_(shift)
    factor = torch.linalg.cholesky(shifted)
    # L⁻¹ Bᵀ − Lᵀ Δᵀ has the norm of the difference.
    whole = solve_triangular(factor, cross.mT, upper=False)
    return (whole - factor.mT @ delta.mT).norm(), whole.norm()


def expected_rounding(
    statistics: LayerStatistics,
    prior: Prior,
    delta: Float[Tensor, "d_out d_in"],
    epsilon: float,
    probes: int = 16,
) -> float | None:
    """Estimate how far rounding moves a delta, relative to its norm.

    To first order, independent errors of ``σ_K``, ``σ_R`` and ``σ_A`` in the entries of
    the keys, the residuals and the system ``A`` move ``Δ = RᵀK A⁻¹`` by

        E‖dΔ‖² = ‖K A⁻¹‖² (σ_K² ‖Δ‖² + d_out σ_R²)
               + ‖A⁻¹‖² (σ_K² ‖R − K Δᵀ‖² + σ_A² ‖Δ‖²)

    where ``σ`` is the root mean square of an entry times the precision: ``ε`` of the
    rows, that of float64 of the system. So the last term is the condition number
    ``‖A‖ ‖A⁻¹‖ / d_in``. Norms with ``A⁻¹`` are means over random rows of a fixed seed.

    Args:
        statistics: One solve's.
        prior: What they were solved against.
        delta: The solution.
        epsilon: ``ε``, the precision that the rows were computed in.
        probes: The number of random rows.

    Returns:
        None if the rows are not known, the delta is 0, or the solve is not reliable.
    """
    keys, residuals = statistics.keys, statistics.residuals
    if statistics.sums is not None or not bool(delta.any()):
        return None
    system = statistics.add_gram(prior.matrix())
    of_system = (torch.finfo(system.dtype).eps * _spread(system)) ** 2
    factor = factorise(system)
    if factor is None:
        return None
    generator = torch.Generator().manual_seed(0)
    shape = (probes, keys.shape[1])
    rows = divide(torch.randn(shape, generator=generator, dtype=factor.dtype), factor)
    inverse, reached = (
        float(each.square().sum()) / probes for each in (rows, rows @ keys.mT)
    )
    of_keys, of_residuals = (
        (epsilon * _spread(each)) ** 2 for each in (keys, residuals)
    )
    left = float((residuals - keys @ delta.mT).square().sum())
    whole = float(delta.square().sum())
    moved = reached * (of_keys * whole + len(delta) * of_residuals)
    moved += inverse * (of_keys * left + of_system * whole)
    return (moved / whole) ** 0.5


def _spread(matrix: Tensor) -> float:
    """Return the root mean square of a matrix's entries."""
    return float(matrix.square().mean()) ** 0.5
