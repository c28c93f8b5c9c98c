"""Solve, trim, elect signs, and average those that agree."""

from collections.abc import Sequence
from math import ceil, nextafter
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import hardshrink

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext


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
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Trim, elect and average the parties' deltas, one at a time."""
        deltas = system.solve_each(statistics)
        first = statistics[0]
        shape = 5, first.residuals.shape[1], first.keys.shape[1]
        total, size, balance, voters, sign = torch.zeros(shape, dtype=torch.float64)
        for delta in deltas:
            kept = trim(delta, self.density)
            torch.sign(kept, out=sign)
            total += kept
            size += kept.abs_()
            balance += sign
            voters += sign.abs_()
        # The side that wins moves by (size ± total) / 2 with (voters ± balance) / 2.
        elected = total.sign()
        agreeing = (voters + elected * balance).clamp_(min=1)
        merged: Tensor = self.scale * (total + elected * size) / agreeing
        return merged


def trim(
    delta: Float[Tensor, "d_out d_in"], density: float
) -> Float[Tensor, "d_out d_in"]:
    """Zero all but the largest entries: ``density`` of them are kept, rounded up.

    Entries as large as the smallest that is kept are kept too, so that the result does
    not depend on how equal magnitudes are sorted.
    """
    # Numpy partitions eight times faster than torch's `kthvalue` does.
    magnitudes = delta.abs().flatten().numpy()
    dropped = len(magnitudes) - ceil(density * len(magnitudes))
    magnitudes.partition(dropped)
    least = float(magnitudes[dropped])
    return hardshrink(delta, nextafter(least, 0.0))
