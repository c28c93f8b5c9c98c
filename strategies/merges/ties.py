"""Solve, trim, elect signs, and average those that agree."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from editing.statistics import LayerStatistics
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
        prior: Float[Tensor, "d_in d_in"],
    ) -> Float[Tensor, "d_out d_in"]:
        """Trim, elect and average the parties' deltas."""
        kept = trim(solve_each(statistics, prior), self.density)
        elected = kept.sum(dim=0).sign()
        agrees = kept.sign() == elected
        agrees &= kept != 0
        voters = agrees.sum(dim=0).clamp(min=1)
        return self.scale * (kept * agrees).sum(dim=0) / voters


def trim(
    deltas: Float[Tensor, "parties d_out d_in"], density: float
) -> Float[Tensor, "parties d_out d_in"]:
    """Zero all but the ``density`` largest entries of each party's delta."""
    magnitudes = deltas.flatten(1).abs()
    kept = max(1, int(density * magnitudes.shape[1]))
    smallest = magnitudes.kthvalue(magnitudes.shape[1] - kept + 1, dim=1).values
    return deltas * (deltas.abs() >= smallest[:, None, None])
