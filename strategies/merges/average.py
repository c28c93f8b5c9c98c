"""Solve, then average."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext

FiniteVote = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SimpleAverageMerge(Merge):
    """Average what the parties would have written alone.

    ``delta = Σ wⱼ deltaⱼ / Σ wⱼ``, where ``wⱼ`` is 1 or the party's number of edits,
    times its entry in `weights` if there are any.

    Attributes:
        weighting: What a party's vote is weighted by.
        weights: Factor of each party's vote, by the party's number; 1 for all if empty.
    """

    name: Literal["simple-average"] = "simple-average"
    weighting: Literal["parties", "edits"] = "parties"
    weights: tuple[FiniteVote, ...] = ()
    paper: ClassVar[str] = "arXiv:2203.05482"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    @field_validator("weights")
    @classmethod
    def check_weights(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse a list in which nobody has a vote.

        Raises:
            ValueError: If all weights are 0.
        """
        if weights and not any(weights):
            raise ValueError("all weights are 0; give one party a positive one")
        return weights

    def check_parties(self, count: int) -> None:
        """Refuse more or fewer weights than parties.

        Raises:
            InputError: If there are weights, and not one for each party.
        """
        if self.weights and len(self.weights) != count:
            raise InputError(
                f"`merge.weights` has {len(self.weights)} entries for {count} parties; "
                "give each party one, in the order of their numbers"
            )

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,
    ) -> Float[Tensor, "d_out d_in"]:
        """Average over the parties there are."""
        factors = self._factors(context.number(statistics))
        votes = [
            factor * (1 if self.weighting == "parties" else part.count)
            for factor, part in zip(factors, statistics, strict=True)
        ]
        shares = [vote / sum(votes) for vote in votes]
        return system.solve_sum(statistics, shares)

    def _factors(self, parties: Sequence[int]) -> list[float]:
        """Return the weights of the parties there are.

        Raises:
            InputError: If a party has none, or all are 0.
        """
        if not self.weights:
            return [1.0] * len(parties)
        missing = [party for party in parties if party >= len(self.weights)]
        if missing:
            raise InputError(
                f"`merge.weights` has {len(self.weights)} entries and none for party "
                f"{missing[0]}; parties count from 0, so give each of them one"
            )
        factors = [self.weights[party] for party in parties]
        if not any(factors):
            raise InputError(
                "`merge.weights` is 0 for each party that is there: "
                f"{', '.join(map(str, parties))}; give one of them a vote"
            )
        return factors
