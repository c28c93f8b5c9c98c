"""Solve for a layer's delta.

With the prior ``A`` and few rows ``K``, ``R`` the delta of ``delta (A + KᵀK) = RᵀK`` is

    delta = Rᵀ T    with    T = (I + K A⁻¹ Kᵀ)⁻¹ K A⁻¹

(Woodbury), so a party costs ``n (d_in + d_out)`` numbers, and all parties share one
factor of the prior: with ``A = L Lᵀ`` and ``V = K L⁻ᵀ``, ``T = (I + V Vᵀ)⁻¹ V L⁻¹``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import solve_triangular

from editing.algebra.statistics import SHARE, LayerStatistics, StatisticsError
from editing.algebra.threads import threads_for
from editing.base.errors import InputError

UNSTABLE = 1e-4
"""Relative error of a solution above which it is unreliable."""

BLOCK = 256
"""Columns that are factorised at a time."""


class IllConditionedError(InputError, ArithmeticError):
    """The normal equations of a layer have no stable solution."""


@dataclass(frozen=True, eq=False)
class Prior:
    """A layer's prior ``λ·C₀ + γ·M``, whose Cholesky factor is computed at most once.

    Attributes:
        covariance: ``C₀``, in any precision; it may be mapped from a file.
        weight: ``λ``.
        grams: ``M``, the sum of remembered grams; None if nothing is remembered.
        memory_weight: ``γ``.
        scale: What makes the covariance a mean, if it is a sum.
        ridge: What is added to the diagonal.
    """

    covariance: Float[Tensor, "d_in d_in"]
    weight: float = 1.0
    grams: Float[Tensor, "d_in d_in"] | None = None
    memory_weight: float = 0.0
    scale: float = 1.0
    ridge: float = 0.0
    _kept: dict[tuple[float, float], "Prior"] = field(
        default_factory=dict, init=False, repr=False
    )

    def matrix(self) -> Float[Tensor, "d_in d_in"]:
        """Compute the matrix, anew at each call, in float64."""
        weight = self.weight * self.scale
        total = self.covariance.to(torch.float64, copy=True).mul_(weight)
        if self.grams is not None:
            total += self.memory_weight * self.grams
        if self.ridge:
            total.diagonal().add_(self.ridge)
        return total

    def text(self) -> Float[Tensor, "d_in d_in"]:
        """Compute ``C₀`` as a mean over tokens, anew at each call, in float64."""
        return self.covariance.to(torch.float64, copy=True).mul_(self.scale)

    def past(self) -> Float[Tensor, "d_in d_in"] | None:
        """Compute ``γM``, anew at each call; None if nothing is remembered."""
        return None if self.grams is None else self.memory_weight * self.grams

    def changed(self, factor: float = 1.0, ridge: float = 0.0) -> "Prior":
        """Return ``factor`` times this prior plus ``ridge``, kept with this one."""
        if (factor, ridge) == (1.0, 0.0):
            return self
        if (factor, ridge) not in self._kept:
            self._kept[factor, ridge] = replace(
                self,
                weight=factor * self.weight,
                memory_weight=factor * self.memory_weight,
                ridge=factor * self.ridge + ridge,
            )
        return self._kept[factor, ridge]

    @cached_property
    def factor(self) -> Float[Tensor, "d_in d_in"] | None:
        """Its lower Cholesky factor, as of `factorise`; None if it is not reliable."""
        return factorise(self.matrix())


def factorise(system: Float[Tensor, "d d"]) -> Float[Tensor, "d d"] | None:
    """Overwrite a system with its lower Cholesky factor; None if it is not reliable.

    What is left above the diagonal has no meaning. A row whose solution is known is
    solved. It comes out wrong where a singular system passed the factorisation by
    rounding.
    """
    with threads_for(len(system)):
        known = system.diagonal().rsqrt()[None]
        image = known @ system
        if not _factorise_in_place(system):
            return None
        error = (divide(image, system) / known - 1).abs()
    return system if bool((error < UNSTABLE).all()) else None


def _factorise_in_place(system: Float[Tensor, "d d"]) -> bool:
    """Factorise block by block; return False at a minor that is not positive.

    Most of it are products, which are faster than torch's own factorisation, and need
    no copy of the system.
    """
    for start in range(0, len(system), BLOCK):
        done = system[start:, :start]
        panel = system[start:, start : start + BLOCK]
        width = panel.shape[1]
        panel.addmm_(done, done[:width].mT, alpha=-1)
        corner, info = torch.linalg.cholesky_ex(panel[:width])
        if info.item() != 0:
            return False
        panel[:width] = corner
        panel[width:] = solve_triangular(
            corner.mT, panel[width:], upper=True, left=False
        )
    return True


def divide(
    rows: Float[Tensor, "n d"], factor: Float[Tensor, "d d"]
) -> Float[Tensor, "n d"]:
    """Solve ``X L Lᵀ = rows``."""
    half = solve_triangular(factor.mT, rows, upper=True, left=False)
    divided: Tensor = solve_triangular(factor, half, upper=False, left=False)
    return divided


def solve_delta(
    statistics: LayerStatistics, prior: Prior
) -> Float[Tensor, "d_out d_in"]:
    """Solve ``delta (prior + gram) = cross`` for the weight delta, in float64.

    A system that is not positive definite to rounding is an `IllConditionedError`.
    """
    (delta,) = solve_each([statistics], prior)
    return delta


def solve_each(
    statistics: Sequence[LayerStatistics], prior: Prior
) -> Iterator[Float[Tensor, "d_out d_in"]]:
    """Solve for parties one by one, each as if it were alone.

    One delta is in memory at a time. A party without a stable solution is an
    `IllConditionedError`, no party a `StatisticsError`.
    """
    require_parties(statistics)
    return _solve_each(statistics, prior)


def _solve_each(
    statistics: Sequence[LayerStatistics], prior: Prior
) -> Iterator[Float[Tensor, "d_out d_in"]]:
    for part, rows in _solve_rows(statistics, prior):
        yield _solve_whole(part, prior) if rows is None else part.residuals.mT @ rows


def solve_sum(
    statistics: Sequence[LayerStatistics], prior: Prior, weights: Sequence[float]
) -> Float[Tensor, "d_out d_in"]:
    """Compute ``Σ wⱼ deltaⱼ``, where each party is solved as if it were alone.

    Of parties with few rows no delta is formed: ``Σ wⱼ Rⱼᵀ Tⱼ`` is one product. Errors
    are those of `solve_each`.
    """
    require_parties(statistics)
    first = statistics[0]
    total = first.residuals.new_zeros(first.residuals.shape[1], first.keys.shape[1])
    left, right = [], []
    for (part, rows), weight in zip(
        _solve_rows(statistics, prior), weights, strict=True
    ):
        if rows is None:
            total += weight * _solve_whole(part, prior)
        else:
            left.append(weight * part.residuals)
            right.append(rows)
    return total.addmm_(torch.cat(left).mT, torch.cat(right)) if left else total


def require_parties(statistics: Sequence[LayerStatistics]) -> None:
    """Refuse to merge nothing.

    Raises:
        StatisticsError: If there is no party.
    """
    if not statistics:
        raise StatisticsError(
            "A merge needs the statistics of at least one party, got none. "
            "Did every party reply with an error?"
        )


def _group(
    statistics: Sequence[LayerStatistics],
) -> Iterator[list[LayerStatistics]]:
    """Gather consecutive parties whose rows together are few; any may be by itself."""
    group: list[LayerStatistics] = []
    rows = 0
    for part in statistics:
        rows += len(part.keys)
        if group and SHARE * rows > part.keys.shape[1]:
            yield group
            group, rows = [], len(part.keys)
        group.append(part)
    if group:
        yield group


def _solve_rows(
    statistics: Sequence[LayerStatistics], prior: Prior
) -> Iterator[tuple[LayerStatistics, Float[Tensor, "rows d_in"] | None]]:
    """Give each party its ``T``; None for one whose system must be solved whole."""
    for group in _group(statistics):
        keys = [part.keys for part in group if part.few]
        if not keys or prior.factor is None:
            yield from ((part, None) for part in group)
            continue
        with threads_for(len(prior.factor)):
            solved = iter(_solve_group(keys, prior.factor))
        yield from ((part, next(solved) if part.few else None) for part in group)


def _solve_group(
    keys: Sequence[Float[Tensor, "_ d_in"]], factor: Float[Tensor, "d_in d_in"]
) -> list[Float[Tensor, "_ d_in"] | None]:
    """Compute ``T`` of parties with few rows; None where that is not reliable."""
    whitened = solve_triangular(factor.mT, torch.cat([*keys]), upper=True, left=False)
    shrunk = [_shrink(rows) for rows in whitened.split([len(each) for each in keys])]
    sound = [rows for rows in shrunk if rows is not None]
    rows = torch.cat([*sound, keys[0][:0]])
    solved = solve_triangular(factor, rows, upper=False, left=False)
    parts = iter(solved.split([len(each) for each in sound]))
    return [None if each is None else next(parts) for each in shrunk]


def _shrink(rows: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"] | None:
    """Compute ``(I + V Vᵀ)⁻¹ V``; None if that is not reliable."""
    system = rows @ rows.mT
    system.diagonal().add_(1)
    factor = factorise(system)
    return None if factor is None else divide(rows.mT, factor).mT


def _solve_whole(
    statistics: LayerStatistics, prior: Prior
) -> Float[Tensor, "d_out d_in"]:
    """Solve the system of prior and gram, with a right side for each output.

    Raises:
        IllConditionedError: If it is not positive definite to rounding.
    """
    with threads_for(statistics.keys.shape[1]):
        factor = factorise(statistics.add_gram(prior.matrix()))
        if factor is not None:
            return divide(statistics.cross, factor)
    raise IllConditionedError(
        "`prior + gram` is not positive definite. The gram of "
        f"{statistics.count} edits has rank at most {statistics.count} of "
        f"{statistics.keys.shape[1]}, so the prior must carry the rest: raise the "
        "prior weight, or estimate the covariance on more text."
    )
