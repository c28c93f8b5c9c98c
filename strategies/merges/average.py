"""Solve, then average."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext


class SimpleAverageMerge(Merge):
    """Average what the parties would have written alone.

    ``delta = Σ wⱼ deltaⱼ / Σ wⱼ``, where ``wⱼ`` is 1 or the party's number of edits.

    Attributes:
        weighting: What a party's vote is weighted by.
    """

    name: Literal["simple-average"] = "simple-average"
    weighting: Literal["parties", "edits"] = "parties"
    paper: ClassVar[str] = "arXiv:2203.05482"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Average over the parties there are."""
        votes = [
            1 if self.weighting == "parties" else part.count for part in statistics
        ]
        shares = [vote / sum(votes) for vote in votes]
        return system.solve_sum(statistics, shares)
