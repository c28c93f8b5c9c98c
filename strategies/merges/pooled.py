"""Pool, then solve: the merge that equals editing on one machine."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics, pool
from strategies.merges.base import Merge


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
        prior: Prior,
    ) -> Float[Tensor, "d_out d_in"]:
        """Solve the pooled normal equations."""
        return solve_delta(pool(statistics), prior)
