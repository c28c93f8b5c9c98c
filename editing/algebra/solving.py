"""Solve for a layer's delta."""

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError

UNSTABLE = 1e-4
"""Relative error of a solution above which it is unreliable."""


class IllConditionedError(InputError, ArithmeticError):
    """The normal equations of a layer have no stable solution."""


def solve_delta(
    statistics: LayerStatistics, prior: Float[Tensor, "d_in d_in"]
) -> Float[Tensor, "d_out d_in"]:
    """Solve ``delta (prior + gram) = cross`` for the weight delta, in float64.

    A row whose solution is known is solved together with those of the delta. It comes
    out wrong where a singular system passed the factorisation by rounding.

    Raises:
        IllConditionedError: If ``prior + gram`` is not positive definite to rounding.
    """
    system = prior.double() + statistics.gram.double()
    factor, info = torch.linalg.cholesky_ex(system)
    known = system.diagonal().rsqrt()[None]
    rows = torch.cat([statistics.cross.double(), known @ system])
    solution = torch.cholesky_solve(rows.mT, factor).mT
    error = (solution[-1] / known - 1).abs().max()
    if info.item() != 0 or not error < UNSTABLE:
        raise IllConditionedError(
            "`prior + gram` is not positive definite. The gram of "
            f"{statistics.count} edits has rank at most {statistics.count} of "
            f"{system.shape[0]}, so the prior must carry the rest: raise the prior "
            "weight, or estimate the covariance on more text."
        )
    return solution[:-1]
