"""Upper bounds on what an honest party can send, as far as the server knows them.

The settings give the number of requests of each party in a round and of their further
phrasings, so the counts that a party sends have an upper bound. They decide how much
its statistics weigh (the bounds on norms are of means over them), and what the report
shows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from flwr.app import Message
from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, StatisticsError
from strategies.partitioning.settings import PartiesConfig
from strategies.wire.handshakes import is_same_key
from strategies.wire.messages import Job, Phase, TargetsReply
from strategies.wire.metrics import EvaluationSums, read_evaluation
from strategies.wire.replies import (
    SMALL_BYTES,
    TOKEN_BYTES,
    answer_bytes,
    moment_bytes,
    statistics_bytes,
)


class OverflowingUpdateError(AggregationError):
    """A merged update that no model can carry."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for one party; by default, none.

    Attributes:
        parties: How many requests each party takes in a round.
        phrasings: How many further phrasings are edited with a request.
        pooled: Whether one party represents all.
        residual_norm: Largest mean of ``‖z − h‖``.
        residual_ratio: Largest mean of ``‖z − h‖ / ‖h‖``.
        widths: ``d_out`` and ``d_in`` of each edited layer.
        tokens: How many rows an edit has at most: one, or the tokens of an answer.
    """

    parties: PartiesConfig | None = None
    phrasings: int = 0
    pooled: bool = False
    residual_norm: float = math.inf
    residual_ratio: float = math.inf
    widths: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    tokens: int = 1

    @property
    def rows(self) -> int:
        """The most rows of statistics that a request makes."""
        return (1 + self.phrasings) * self.tokens

    def reply_bytes(self, phase: Phase, job: Job, party: int) -> float:
        """Return the most bytes that a party's reply to a message can have.

        Args:
            phase: The kind of message.
            job: What it asks for.
            party: The party's number, see `requests_of`.
        """
        if not self.widths:
            return math.inf
        asked = self.requests_of(job.round, party)
        most = float(SMALL_BYTES * max(1, job.round))  # metrics are by round
        if phase == Phase.TOKENS:
            return most + TOKEN_BYTES * asked
        for layer in job.layers:
            d_out, d_in = self.widths[layer]
            if phase == Phase.MOMENTS:
                most += moment_bytes(d_in)
            elif phase == Phase.ANSWERS:
                most += answer_bytes(d_out, d_in)
            else:
                edits = asked * self.rows
                most += statistics_bytes(job.encoding, d_out, d_in, edits)
        return most

    def validate_party(self, number: int, key: str) -> None:
        """Refuse a node that is not the party that it says, or that is left out.

        Args:
            number: The party's number, as the node says; −1 if it says none.
            key: The node's public key, as its file has it.

        Raises:
            StatisticsError: If there is no such party, its key is another, or the
                operator leaves it out.
        """
        if self.parties is None:
            return
        count, keys = self.parties.count, self.parties.keys
        if number >= count:
            raise StatisticsError(
                f"it claims to be party {number}, and there are {count} "
                f"(`parties.count`); give it a `partition-id` from 0 to {count - 1}"
            )
        if keys and (number < 0 or not is_same_key(keys[number], key)):
            claimed = f"party {number}" if number >= 0 else "a party without a number"
            raise StatisticsError(
                f"it claims to be {claimed}, and its registered key is not that "
                "party's (`parties.keys`)"
            )
        if number in self.parties.without:
            raise StatisticsError("the run is without it (`parties.without`)")

    def requests_of(self, number: int, party: int) -> float:
        """Return the most requests that a party has in a round.

        Args:
            number: The round, counted from 1.
            party: The party's number; one that is not listed can have as many as any.
        """
        if self.parties is None:
            return math.inf
        sizes = self.parties.most_of(number)
        if self.pooled:
            return float(sum(sizes))
        return float(sizes[party] if 0 <= party < len(sizes) else max(sizes))

    def requests_until(self, number: int, party: int) -> dict[int, float]:
        """Return the most requests of each round so far; in round 0, of the first."""
        rounds = range(1, max(number, 1) + 1)
        return {each: self.requests_of(each, party) for each in rounds}

    def validate_requests(self, count: int, number: int, party: int) -> None:
        """Refuse a party that has more requests than it can in a round.

        Raises:
            StatisticsError: Saying how many it can have.
        """
        most = self.requests_of(number, party)
        if count > most:
            raise StatisticsError(
                f"it reports more requests than the {most:g} that it can have in "
                f"round {number} (`parties.requests-per-round`)"
            )

    def validate_targets(self, targets: TargetsReply, number: int, party: int) -> None:
        """Refuse a party with too many requests, or with targets too far away.

        Raises:
            StatisticsError: If targets are farther away than any can be.
        """
        examined = targets.requests + targets.known
        self.validate_requests(examined + targets.left_out, number, party)
        norm, ratio = self.residual_norm, self.residual_ratio
        far = targets.residual_norm > (examined * norm if examined else 0)
        steep = targets.residual_ratio > (examined * ratio if examined else 0)
        if far or steep:
            raise StatisticsError(
                "it reports targets that are farther away than possible "
                "(`run.max-residual-ratio`)"
            )

    def count_edits(
        self, statistics: Mapping[int, LayerStatistics], targets: TargetsReply
    ) -> int:
        """Return how many edits a party's statistics are sums over.

        Args:
            statistics: By layer.
            targets: The party's summary of its requests; at least one is edited.

        Raises:
            StatisticsError: If the requests with their phrasings cannot make as many.
        """
        most = targets.requests * self.rows
        for layer, each in statistics.items():
            if not targets.requests <= each.count <= most:
                raise StatisticsError(
                    f"layer {layer}: a count of {each.count} does not go with "
                    f"{targets.requests} requests, which are {most} edits at most"
                )
        edits = next(each.count for each in statistics.values())
        validate_same_edits(statistics, edits)
        return edits

    def read_evaluation(
        self, reply: Message, number: int, party: int
    ) -> EvaluationSums:
        """Read metrics over no more requests than the party has had so far.

        Others are a `StatisticsError`, see `strategies.wire.metrics.decode_metrics`.
        """
        return read_evaluation(reply.content, self.requests_until(number, party))


def validate_same_edits(
    statistics: Mapping[int, LayerStatistics], edits: int | None
) -> None:
    """Validate that all layers of a round are sums over the same number of edits.

    Args:
        statistics: By layer.
        edits: The number in the party's first layer; None if it is not known.

    Raises:
        StatisticsError: Naming the layer with another number.
    """
    for layer, each in statistics.items():
        if edits is not None and each.count != edits:
            raise StatisticsError(
                f"layer {layer}: a count of {each.count} was sent, and {edits} edits "
                "are summed in other layers of the round"
            )


def require_finite(
    delta: Mapping[str, Tensor], dtype: torch.dtype, contributors: Sequence[str]
) -> None:
    """Stop the run before an update with an invalid entry is sent out.

    Args:
        delta: All updates so far, by parameter name.
        dtype: The precision in which they are sent.
        contributors: The parties whose statistics are in the last of them.

    Raises:
        OverflowingUpdateError: Naming the contributors.
    """
    for name, update in delta.items():
        if not update.to(dtype).isfinite().all():
            kind = str(dtype).removeprefix("torch.")
            raise OverflowingUpdateError(
                f"The merged update of `{name}` has entries that are not finite in "
                f"{kind}. These parties contributed to it: {', '.join(contributors)}. "
                "Lower `run.max-residual-ratio` or `run.max-key-ratio` so that the one "
                "at fault is refused, run without it, or raise `prior.weight`."
            )
