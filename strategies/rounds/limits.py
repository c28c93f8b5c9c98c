"""The most that an honest party can say of itself, as far as the server knows it.

The settings say how many requests each party takes in a round and with how many further
phrasings, so the counts that a party sends have an upper bound. They decide how much
its statistics weigh (the bounds on norms are of means over them), and what the report
says.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from flwr.app import ConfigRecord, Message
from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.algebra.statistics import StatisticsError
from strategies.rounds.registry import PartyRegistry
from strategies.scenario import PartiesConfig
from strategies.wire.messages import TargetsReply, read_metrics


class OverflowingUpdateError(AggregationError):
    """A merged update that no model can carry."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a party can have and find at most; by default, anything.

    Attributes:
        parties: How many requests each of them takes in a round.
        phrasings: How many further phrasings are edited with a request.
        pooled: Whether one party stands for all.
        residual_norm: Of the mean of ``‖z − h‖``.
        residual_ratio: Of the mean of ``‖z − h‖ / ‖h‖``.
    """

    parties: PartiesConfig | None = None
    phrasings: int = 0
    pooled: bool = False
    residual_norm: float = math.inf
    residual_ratio: float = math.inf

    def requests_of(self, number: int, place: int) -> float:
        """The most requests that a party has in a round.

        Args:
            number: The round, counted from 1.
            place: The party; one that is not listed can have as many as any.
        """
        if self.parties is None:
            return math.inf
        own = self.parties.sizes_of(number)
        planted = self.parties.planted_sizes_of(number)
        sizes = [sum(pair) for pair in zip(own, planted, strict=True)]
        if self.pooled:
            return float(sum(sizes))
        return float(sizes[place] if 0 <= place < len(sizes) else max(sizes))

    def asked_until(self, number: int, place: int) -> dict[int, float]:
        """The most requests of each round so far; of the first one before any edit."""
        rounds = range(1, max(number, 1) + 1)
        return {each: self.requests_of(each, place) for each in rounds}

    def check_requests(self, count: int, number: int, place: int) -> None:
        """Refuse a party that speaks of more requests than it has in a round.

        Raises:
            StatisticsError: Saying how many it can have.
        """
        most = self.requests_of(number, place)
        if count > most:
            raise StatisticsError(
                f"it speaks of more requests than the {most:g} that it can have in "
                f"round {number} (`parties.requests-per-round`)"
            )

    def check_targets(self, told: TargetsReply, number: int, place: int) -> None:
        """Refuse a party that speaks of too many requests, or of targets too far away.

        Raises:
            StatisticsError: If targets are farther away than any can be.
        """
        examined = told.requests + told.known
        self.check_requests(examined + told.left_out, number, place)
        norm, ratio = self.residual_norm, self.residual_ratio
        far = told.residual_norm > (examined * norm if examined else 0)
        steep = told.residual_ratio > (examined * ratio if examined else 0)
        if far or steep:
            raise StatisticsError(
                "it speaks of targets that are farther away than any can be "
                "(`run.max-residual-ratio`)"
            )

    def count_edits(
        self, reply: Message, told: TargetsReply, layers: Iterable[int]
    ) -> int:
        """How many edits a party's statistics are sums over: each request's phrasings.

        Args:
            reply: Holds the statistics.
            told: What the party says of its requests; at least one is edited.
            layers: Those that were asked for.

        Raises:
            StatisticsError: If the requests cannot make as many.
        """
        counts = counts_of(reply, layers)
        most = told.requests * (1 + self.phrasings)
        for layer, count in counts.items():
            if not told.requests <= count <= most:
                raise StatisticsError(
                    f"layer {layer}: a count of {count} does not go with "
                    f"{told.requests} requests, which are {most} edits at most"
                )
        edits = next(iter(counts.values()), told.requests)
        check_same_edits(reply, counts, edits)
        return edits

    def read_metrics(
        self, reply: Message, number: int, registry: PartyRegistry
    ) -> dict[str, float]:
        """Read metrics of no more requests than the party has asked for so far.

        Others are a `StatisticsError`, see `strategies.wire.messages.read_metrics`.
        """
        place = registry.places.get(reply.metadata.src_node_id, -1)
        return read_metrics(reply.content, self.asked_until(number, place))


def counts_of(reply: Message, layers: Iterable[int]) -> dict[int, int]:
    """The counts of a party's statistics by layer; one that is not there is left out.

    Whoever reads the statistics themselves refuses those that lack it.
    """
    facts = reply.content.config_records.get("facts", ConfigRecord())
    found = {layer: facts.get(f"{layer}.count") for layer in layers}
    return {layer: count for layer, count in found.items() if isinstance(count, int)}


def check_same_edits(reply: Message, layers: Iterable[int], edits: int | None) -> None:
    """Hold all layers of a round to one number of edits: they speak of the same ones.

    Args:
        reply: Holds the statistics.
        layers: Those that were asked for.
        edits: How many the party's first layer was a sum over; None if nobody knows.

    Raises:
        StatisticsError: Naming the layer that has another.
    """
    for layer, count in counts_of(reply, layers).items():
        if edits is not None and count != edits:
            raise StatisticsError(
                f"layer {layer}: a count of {count} was sent, and {edits} edits are "
                "summed in other layers of the round"
            )


def require_finite(
    delta: Mapping[str, Tensor], dtype: torch.dtype, registry: PartyRegistry
) -> None:
    """Stop before an update goes out that would spoil everybody's model.

    Args:
        delta: All updates so far, by parameter name.
        dtype: In what precision they go out.
        registry: Knows who contributes to the last of them.

    Raises:
        OverflowingUpdateError: Naming who contributed.
    """
    for name, update in delta.items():
        if not update.to(dtype).isfinite().all():
            kind = str(dtype).removeprefix("torch.")
            parties = [
                f"node {node} (party {registry.places.get(node, -1)})"
                for node in registry.active
            ]
            raise OverflowingUpdateError(
                f"The merged update of `{name}` has entries that are no numbers in "
                f"{kind}. It is made of what these parties sent: "
                f"{', '.join(parties)}. Lower `run.max-residual-ratio` or "
                "`run.max-key-ratio` to have the one refused that is at fault, take it "
                "out, or raise `prior.weight`."
            )
