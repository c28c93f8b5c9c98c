"""Solve, drop the largest entries and the small ones, and add."""

from collections.abc import Sequence
from math import ceil, floor
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.merges.ties import Fusion, Share, fuse


class BreadcrumbsMerge(Merge):
    """Keep each party's entries of middling size, and add them.

    Attributes:
        density: Share of each party's entries that is kept: the largest that are no
            outliers, ``1 − β − γ`` of the paper. Chosen here; mergekit's guide has 0.9.
        outliers: Share of each party's entries that is dropped as too large; mergekit's
            ``gamma`` and its default, the paper's ``β``.
        fusion: The sum of all parties, or the sum or the mean of the entries whose sign
            wins, as in `ties`.
        scale: Factor of the merged delta; the paper tunes it, mergekit has 1.
    """

    name: Literal["breadcrumbs"] = "breadcrumbs"
    density: Share = 0.15
    outliers: Annotated[float, Field(ge=0, lt=1)] = 0.01
    fusion: Fusion = "sum"
    scale: PositiveFloat = 1.0
    paper: ClassVar[str] = "arXiv:2312.06795"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Trim and fuse the parties' deltas, one at a time."""
        deltas = system.solve_each(statistics)
        kept = (trim_both_ends(each, self.density, self.outliers) for each in deltas)
        return fuse(kept, self.fusion, self.scale)


def trim_both_ends(
    delta: Float[Tensor, "d_out d_in"], density: float, outliers: float
) -> Float[Tensor, "d_out d_in"]:
    """Zero the largest entries, and all but the largest of the others.

    The share that is dropped as too large is rounded down and the share that is kept
    up, so one entry is always left. Entries as large as one that is kept are kept too.
    """
    size = delta.abs()
    magnitudes = size.flatten().numpy().copy()
    top = len(magnitudes) - floor(outliers * len(magnitudes))
    low = max(top - ceil(density * len(magnitudes)), 0)
    magnitudes.partition([low, top - 1])
    least, most = float(magnitudes[low]), float(magnitudes[top - 1])
    return delta * ((size >= least) & (size <= most))
