"""Pool, then solve: the merge that equals editing on one machine."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
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


class CollabEditDeltasMerge(Merge):
    """Pool what is read back from the parties' deltas, as CollabEdit's program does.

    A party's cross term is taken to be ``Δⱼ (A + Sⱼ)`` with MEMIT's prior ``A``, and
    the sum is solved by MEMIT. That is `collabedit` if the parties' deltas are MEMIT's.
    Those of another editor are read back as something else, and the merge fails: it is
    the baseline that shows why statistics are pooled instead (arXiv 2610.11033).
    """

    name: Literal["collabedit-deltas"] = "collabedit-deltas"
    paper: ClassVar[str] = "arXiv:2410.09508"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,
    ) -> Float[Tensor, "d_out d_in"]:
        """Read the cross terms back, one delta at a time, and solve their sum."""
        memit = System(context.prior or system.prior)
        prior, pooled = memit.prior.matrix(), pool(statistics)
        deltas = zip(statistics, system.solve_each(statistics), strict=True)
        cross = torch.zeros_like(pooled.cross)
        for part, delta in deltas:
            cross += delta @ part.add_gram(prior.clone())
        read = LayerStatistics.of_sums(pooled.gram, cross, pooled.count)
        return memit.solve(read)
