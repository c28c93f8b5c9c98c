"""Solve, then add."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from editing.algebra.solving import Prior, solve_sum
from editing.algebra.statistics import LayerStatistics
from strategies.merges.base import Merge


class TaskArithmeticMerge(Merge):
    """Add what the parties would have written alone: ``delta = scale · Σ deltaⱼ``.

    Attributes:
        scale: Factor of the sum.
    """

    name: Literal["task-arithmetic"] = "task-arithmetic"
    scale: PositiveFloat = 1.0
    paper: ClassVar[str] = "arXiv:2212.04089"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        prior: Prior,
    ) -> Float[Tensor, "d_out d_in"]:
        """Scale the sum of the parties' deltas."""
        return solve_sum(statistics, prior, [self.scale] * len(statistics))
