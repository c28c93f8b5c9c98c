"""Solve, then add."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext


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
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Scale the sum of the parties' deltas."""
        return system.solve_sum(statistics, [self.scale] * len(statistics))
