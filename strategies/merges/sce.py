"""Solve, select entries that vary, weigh the parties, erase minorities."""

from collections.abc import Sequence
from math import ceil
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.merges.ties import Share


class SceMerge(Merge):
    """Average, by size, the parties that agree where the parties differ most.

    Selected are the entries with the largest variance over the parties. With ``qⱼ`` the
    mean square of what is selected of ``deltaⱼ``, an entry is ``Σ qⱼ deltaⱼ / Σ qⱼ``
    over the parties whose sign is that of ``Σ deltaⱼ``, and 0 if it is not selected.

    Attributes:
        select: Share of the entries that is selected, the paper's ``τ``. Chosen here;
            mergekit's default selects all.
    """

    name: Literal["sce"] = "sce"
    select: Share = 0.1
    paper: ClassVar[str] = "arXiv:2408.07990"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Solve twice for each party, so that one delta at a time is in memory."""
        mean, spread = _moments(statistics, system)
        selected = select_largest(spread, self.select)
        elected = mean.sign()
        total, weight = torch.zeros(2, *mean.shape, dtype=torch.float64)
        for delta in system.solve_each(statistics):
            chosen = delta * selected
            size = chosen.square().mean()
            agrees = chosen.sign() == elected
            total += size * chosen * agrees
            weight += size * agrees
        return torch.where(weight > 0, total / weight, 0.0)


def _moments(
    statistics: Sequence[LayerStatistics], system: System
) -> tuple[Float[Tensor, "d_out d_in"], Float[Tensor, "d_out d_in"]]:
    """Return mean and summed squared deviations (Welford).

    So equal parties deviate by exactly 0.
    """
    deltas = system.solve_each(statistics)
    mean = next(deltas)
    spread = torch.zeros_like(mean)
    for count, delta in enumerate(deltas, start=2):
        gap = delta - mean
        mean = mean + gap / count
        spread += gap * (delta - mean)
    return mean, spread


def select_largest(
    values: Float[Tensor, "d_out d_in"], share: float
) -> Bool[Tensor, "d_out d_in"]:
    """Mark the largest values: a share of them, rounded up, and all equal to one."""
    ordered = values.flatten().numpy().copy()
    place = len(ordered) - ceil(share * len(ordered))
    ordered.partition(place)
    return values >= float(ordered[place])
