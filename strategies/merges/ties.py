"""Solve, trim, elect signs, and average those that agree."""

from collections.abc import Sequence
from math import ceil
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from strategies.merges.base import Merge, solve_each


class TiesMerge(Merge):
    """Keep each party's largest entries, and average those whose sign wins.

    Attributes:
        density: Share of each party's entries that is kept, by magnitude.
        scale: Factor of the merged delta.
    """

    name: Literal["ties"] = "ties"
    density: Annotated[float, Field(gt=0, le=1)] = 0.2
    scale: PositiveFloat = 0.4
    paper: ClassVar[str] = "arXiv:2306.01708"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        prior: Prior,
    ) -> Float[Tensor, "d_out d_in"]:
        """Trim, elect and average the parties' deltas."""
        kept = trim(solve_each(statistics, prior), self.density)
        elected = kept.sum(dim=0).sign()
        agreeing = kept * elected > 0
        voters = agreeing.sum(dim=0).clamp(min=1)
        return self.scale * kept.where(agreeing, 0.0).sum(dim=0) / voters


def trim(
    deltas: Float[Tensor, "parties d_out d_in"], density: float
) -> Float[Tensor, "parties d_out d_in"]:
    """Zero all but the largest entries of each delta: ``density`` of them, rounded up.

    Entries as large as the smallest that is kept are kept too, so that the result does
    not depend on how equal magnitudes are sorted.
    """
    magnitudes = deltas.flatten(1).abs()
    entries = magnitudes.shape[1]
    rank = entries - ceil(density * entries) + 1
    threshold = magnitudes.kthvalue(rank, dim=1).values
    return deltas.where(deltas.abs() >= threshold[:, None, None], 0.0)
