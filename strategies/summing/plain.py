"""Rounds in which the server sees each party's statistics, and checks each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from flwr.app import Message
from flwr.serverapp import Grid

from editing.algebra.statistics import StatisticsError
from editing.answers.moments import Moments, Shape, pool_moments
from strategies.rounds.aggregation import Aggregation, add_metrics, add_targets
from strategies.rounds.limits import Limits
from strategies.rounds.registry import PartyRegistry
from strategies.summing.answers import AnswerSum, Whole
from strategies.wire.answers import read_answer_vectors
from strategies.wire.messages import Job, Phase
from strategies.wire.metrics import EvaluationSums

MEMORY = "memory"
"""The sum of keys that are read again on the edited model."""


@dataclass(frozen=True, slots=True)
class PlainRounds:
    """What is summed in the rounds of one merge, party by party.

    Attributes:
        starts_again: Whether a round whose first sums are known may start again without
            a party that was lost.
        registry: The parties.
        limits: Upper bounds on what one party sends.
        aggregate: Makes what an exchange's statistics are added to, of the layers of a
            round and of `Phase.MEMORY` or `Phase.STATISTICS`.
    """

    starts_again: ClassVar[bool] = True
    registry: PartyRegistry
    limits: Limits
    aggregate: Callable[[int, Sequence[int], Phase], Aggregation]

    def begin(self, grid: Grid, job: Job, *, memory: bool = False) -> None:
        """Begin a round: there is nothing to exchange first."""

    def sum_answers(
        self,
        grid: Grid,
        job: Job,
        messages: Sequence[Message],
        asked: AnswerSum,
        whole: Whole = None,
    ) -> tuple[dict[Shape, Moments], Whole]:
        """Take the moments of keys and gradients of each party, in their order.

        A party whose moments are invalid is left out of the round. One that is lost
        afterwards is in the moments, so that the round starts again without it.
        """
        registry, number, total = self.registry, job.round, asked.none
        for reply in registry.exchange(grid, number, messages):
            node = reply.metadata.src_node_id
            party = registry.parties.number_of(node)
            try:
                vectors = read_answer_vectors(reply.content)
                found = asked.check(vectors, self.limits, number, party)
            except StatisticsError as error:
                registry.refuse(number, node, str(error))
            else:
                total = pool_moments([total, found])
        registry.require_enough(number)
        return total, list(registry.present) if whole is None else whole

    def sum_targets(
        self,
        grid: Grid,
        job: Job,
        messages: Sequence[Message],
        whole: Sequence[int] | None = None,  # noqa: ARG002 - the round starts again
    ) -> Aggregation | None:
        """Take the first statistics of each party; None if nobody has an edit."""
        replies = self.registry.exchange(grid, job.round, messages)
        return self.add_targets(job.round, job.layers, replies)

    def add_targets(
        self, number: int, layers: Sequence[int], replies: Iterable[Message]
    ) -> Aggregation | None:
        """Validate the replies of the first exchange; see `sum_targets`."""
        registry = self.registry
        aggregation = self.aggregate(number, layers, Phase.STATISTICS)
        add_targets(number, replies, registry, self.limits, aggregation)
        registry.require_enough(number)
        return aggregation if registry.active else None

    def sum_statistics(
        self,
        grid: Grid,
        job: Job,
        messages: Sequence[Message],
        name: str,
    ) -> Aggregation:
        """Take the statistics of a job's layers of each party.

        A party whose statistics are invalid is left out before any arithmetic, and the
        round continues if enough remain.
        """
        phase = Phase.MEMORY if name == MEMORY else Phase.STATISTICS
        aggregation = self.aggregate(job.round, job.layers, phase)
        replies = self.registry.exchange(grid, job.round, messages)
        aggregation.add_all(replies, self.registry)
        self.registry.require_contributors(job.round)
        return aggregation

    def sum_metrics(
        self, grid: Grid, number: int, messages: Sequence[Message]
    ) -> EvaluationSums:
        """Take the metrics of each party; invalid ones are left out.

        Their party's edits are in the round by then.
        """
        replies = self.registry.exchange(grid, number, messages)
        return add_metrics(number, replies, self.registry, self.limits)
