"""What a merge is: settings that can be called."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.editors.system import System


@dataclass(frozen=True, slots=True)
class MergeContext:
    """Where in a run a merge is called.

    Attributes:
        layer: The layer.
        round: Counted from 1.
        seed: The run's.
        parties: The number of each party, in the order of their statistics; empty
            outside a run, where their places count as their numbers.
        weight: The layer's weight as the round begins, in float64; only for merges
            that read it, and None if it is not known.
        prior: MEMIT's prior ``λC₀ + γM``, whatever the editor solves; None outside a
            run, where it is the system's own.
    """

    layer: int = 0
    round: int = 1
    seed: int = 0
    parties: tuple[int, ...] = ()
    weight: Float[Tensor, "d_out d_in"] | None = field(
        default=None, compare=False, repr=False
    )
    prior: Prior | None = field(default=None, compare=False, repr=False)

    def generator(self, party: int | None = None) -> torch.Generator:
        """Start a generator that draws alike in this layer and round, in no other.

        Args:
            party: Whose draws these are, by number, so that they depend neither on who
                else is there nor on the order; None for draws that all share.
        """
        name = f"merge/{self.seed}/{self.round}/{self.layer}"
        name = name if party is None else f"{name}/{party}"
        digest = hashlib.sha256(name.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def number(self, statistics: Sequence[LayerStatistics]) -> tuple[int, ...]:
        """Return the number of each party."""
        return self.parties or tuple(range(len(statistics)))

    def require_weight(self, merge: str) -> Float[Tensor, "d_out d_in"]:
        """Return the layer's weight.

        Raises:
            InputError: If it is not known.
        """
        if self.weight is None:
            raise InputError(
                f"`{merge}` merges whole weights, not updates, and the layer's weight "
                "is not known here. A run's server knows it; whoever calls the merge "
                "gives it as `MergeContext(weight=...)`. `model-stock` needs none."
            )
        return self.weight


NOWHERE = MergeContext()
"""The context of a call outside a run."""


class Merge(Settings):
    """Turn the parties' statistics of one layer into one delta.

    Attributes:
        name: The word that chooses the merge in a scenario and in a report.
        paper: Where the method comes from.
        needs: ``"sum"`` if the merge reads the parties' statistics only through their
            sum, so that a server may add replies as they arrive; ``"each"`` if not.
        draws: Whether it draws at random, from the context's generators.
        reads_weight: Whether it reads the context's weight.
    """

    name: str
    paper: ClassVar[str]
    needs: ClassVar[Literal["sum", "each"]]
    draws: ClassVar[bool] = False
    reads_weight: ClassVar[bool] = False

    def check_parties(self, count: int) -> None:
        """Refuse settings that do not fit so many parties, as an `InputError`."""

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
