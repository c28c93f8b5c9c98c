"""Solve for a layer's delta."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError

UNSTABLE = 1e-4
"""Relative error of a solution above which it is unreliable."""


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
    """

    covariance: Float[Tensor, "d_in d_in"]
    weight: float = 1.0
    grams: Float[Tensor, "d_in d_in"] | None = None
    memory_weight: float = 0.0

    def matrix(self) -> Float[Tensor, "d_in d_in"]:
        """Compute the matrix, anew at each call, in float64."""
        total = self.covariance.to(torch.float64, copy=True).mul_(self.weight)
        if self.grams is not None:
            total += self.memory_weight * self.grams
        return total

    @cached_property
    def factor(self) -> Float[Tensor, "d_in d_in"] | None:
        """The lower Cholesky factor; None if the prior alone carries no solve."""
        return factorise(self.matrix())


def factorise(
    system: Float[Tensor, "d_in d_in"],
) -> Float[Tensor, "d_in d_in"] | None:
    """Return the lower Cholesky factor of a system; None if it is not reliable.

    A row whose solution is known is solved. It comes out wrong where a singular system
    passed the factorisation by rounding.
    """
    factor, info = torch.linalg.cholesky_ex(system)
    known = system.diagonal().rsqrt()[None]
    solution = torch.cholesky_solve((known @ system).mT, factor).mT
    error = (solution / known - 1).abs().max()
    reliable = info.item() == 0 and bool(error < UNSTABLE)
    return factor if reliable else None


def solve_delta(
    statistics: LayerStatistics, prior: Prior
) -> Float[Tensor, "d_out d_in"]:
    """Solve ``delta (prior + gram) = cross`` for the weight delta, in float64.

    Raises:
        IllConditionedError: If ``prior + gram`` is not positive definite to rounding.
    """
    system = prior.matrix()
    system += statistics.gram
    factor = factorise(system)
    if factor is None:
        raise IllConditionedError(
            "`prior + gram` is not positive definite. The gram of "
            f"{statistics.count} edits has rank at most {statistics.count} of "
            f"{len(system)}, so the prior must carry the rest: raise the prior "
            "weight, or estimate the covariance on more text."
        )
    return torch.cholesky_solve(statistics.cross.double().mT, factor).mT
