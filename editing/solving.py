"""Solve for a layer's delta."""

import torch
from jaxtyping import Float
from torch import Tensor

from editing.errors import InputError
from editing.statistics import LayerStatistics


class IllConditionedError(InputError, ArithmeticError):
    """The normal equations of a layer have no stable solution."""


def solve_delta(
    statistics: LayerStatistics, prior: Float[Tensor, "d_in d_in"]
) -> Float[Tensor, "d_out d_in"]:
    """Solve ``delta (prior + gram) = cross`` for the weight delta, in float64.

    Raises:
        IllConditionedError: If ``prior + gram`` is not positive definite to rounding.
    """
    system = prior.double() + statistics.gram.double()
    factor, info = torch.linalg.cholesky_ex(system)
    # A pivot is what earlier keys leave of a diagonal entry; less than this is rounding.
    rounding = torch.finfo(system.dtype).eps * system.shape[0]
    vanished = factor.diagonal().square() <= rounding * system.diagonal()
    if info.item() != 0 or vanished.any():
        raise IllConditionedError(
            "`prior + gram` is not positive definite. The gram of "
            f"{statistics.count} edits has rank at most {statistics.count} of "
            f"{system.shape[0]}, so the prior must carry the rest: raise the prior "
            "weight, or estimate the covariance on more text."
        )
    return torch.cholesky_solve(statistics.cross.double().mT, factor).mT
