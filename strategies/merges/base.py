"""What a merge is: settings that can be called."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.base.settings import Settings
from editing.editors.system import System


@dataclass(frozen=True, slots=True)
class MergeContext:
    """Where in a run a merge is called.

    Attributes:
        layer: The layer.
        round: Counted from 1.
        seed: The run's.
    """

    layer: int = 0
    round: int = 1
    seed: int = 0

    def generator(self) -> torch.Generator:
        """Start a generator that draws alike in this layer and round, in no other."""
        name = f"merge/{self.seed}/{self.round}/{self.layer}"
        digest = hashlib.sha256(name.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


NOWHERE = MergeContext()
"""The context of a call outside a run."""


class Merge(Settings):
    """Turn the parties' statistics of one layer into one delta.

    Attributes:
        name: The word that chooses the merge in a scenario and in a report.
        paper: Where the method comes from.
        needs: ``"sum"`` if the merge reads the parties' statistics only through their
            sum, so that a server may add replies as they arrive; ``"each"`` if not.
    """

    name: str
    paper: ClassVar[str]
    needs: ClassVar[Literal["sum", "each"]]

    @abstractmethod
    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,
    ) -> Float[Tensor, "d_out d_in"]:
        """Merge the statistics of at least one party, in float64.

        Args:
            statistics: Of each party in the order of their numbers, or their sum; the
                number of edits is in them.
            system: What the run's editor solves.
            context: Where in the run that is, for merges that draw.
        """
