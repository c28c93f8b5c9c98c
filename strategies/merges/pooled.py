"""Pool, then solve: the merge that equals editing on one machine."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, pool
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext


class CollabEditMerge(Merge):
    """Solve once, on the union of all parties' edits.

    ``delta (prior + Σ KᵀK) = Σ RᵀK``, with the sums over parties.
    """

    name: Literal["collabedit"] = "collabedit"
    paper: ClassVar[str] = "arXiv:2410.09508"
    needs: ClassVar[Literal["sum", "each"]] = "sum"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Solve the pooled normal equations."""
        return system.solve(pool(statistics))
