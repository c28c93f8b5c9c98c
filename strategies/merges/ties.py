"""Solve, trim, elect signs, and average those that agree."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
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

Share = Annotated[float, Field(gt=0, le=1)]
"""A share of the entries."""

Fusion = Literal["sum", "agreeing-sum", "agreeing-mean"]
"""How updates become one, entry by entry: the sum of all, or the sum or the mean of
those whose sign is that sum's."""


class TiesMerge(Merge):
    """Keep each party's largest entries, and average those whose sign wins.

    Attributes:
        density: Share of each party's entries that is kept, by magnitude.
        scale: Factor of the merged delta.
        fusion: The mean or the sum of the entries whose sign wins, or the sum of all.
    """

    name: Literal["ties"] = "ties"
    density: Share = 0.2
    scale: PositiveFloat = 0.4
    fusion: Fusion = "agreeing-mean"
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
        kept = (trim(delta, self.density) for delta in deltas)
        return fuse(kept, self.fusion, self.scale)


def fuse(
    tasks: Iterable[Float[Tensor, "d_out d_in"]], fusion: Fusion, scale: float
) -> Float[Tensor, "d_out d_in"]:
    """Make one update of those of at least one party, which it overwrites.

    One at a time is in memory; a sum is ``scale · Σ tⱼ``.
    """
    remaining = iter(tasks)
    first = next(remaining)
    everyone = chain([first], remaining)
    if fusion != "sum":
        return _fuse_agreeing(everyone, first.shape, fusion, scale)
    total = torch.zeros_like(first)
    for task in everyone:
        total += task
    return scale * total


def _fuse_agreeing(
    tasks: Iterator[Float[Tensor, "d_out d_in"]],
    shape: torch.Size,
    fusion: Fusion,
    scale: float,
) -> Float[Tensor, "d_out d_in"]:
    total, size, balance, voters, sign = torch.zeros(5, *shape, dtype=torch.float64)
    for kept in tasks:
        torch.sign(kept, out=sign)
        total += kept
        size += kept.abs_()
        balance += sign
        voters += sign.abs_()
    # The side that wins moves by (size ± total) / 2 with (voters ± balance) / 2.
    elected = total.sign()
    agreeing: Tensor | int = 2
    if fusion == "agreeing-mean":
        agreeing = (voters + elected * balance).clamp_(min=1)
    merged: Tensor = scale * (total + elected * size) / agreeing
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
