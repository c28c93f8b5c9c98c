"""Rounds of secure sums: which sums a round has, and what is read from each.

What remains of the checks of single parties is a check of the sum. If it fails, the
server cannot tell whose statistics are false, so nothing of the round is applied.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from flwr.app import Message
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError

from editing.algebra.statistics import (
    LayerStatistics,
    StatisticsError,
    check_count,
    check_norms,
)
from editing.answers.moments import Moments, Shape
from strategies.rounds.aggregation import Aggregation
from strategies.rounds.limits import Limits
from strategies.rounds.registry import PartyRegistry, TooFewPartiesError
from strategies.rounds.state import EditedLayer
from strategies.secure.opening import UnopenedSumError
from strategies.secure.records import MaskedRequest
from strategies.secure.vectors import (
    COUNT,
    METRICS,
    SUMMARY,
    LayerShape,
    Vectors,
    pack_metrics,
    to_count,
    unpack_layer,
    unpack_metrics,
    unpack_summary,
)
from strategies.summing.answers import AnswerSum, Whole
from strategies.summing.plain import MEMORY
from strategies.summing.sessions import OpenedSum, SecureSessions
from strategies.wire.messages import Job, Phase
from strategies.wire.metrics import EvaluationSums, decode_metrics, encode_metrics

logger = logging.getLogger(__name__)

POOLED = 0
"""The number of no node, under which an outcome holds what is known of all parties."""

TARGETS, ANSWERS = "targets", "answers"


class ImpossibleSumError(AggregationError):
    """A sum that no parties' edits can have; it does not show whose fault it is."""

    def __init__(self, number: int, reason: str) -> None:
        """Give the round and the reason, and what to do."""
        super().__init__(
            f"The secure sum of round {number} is impossible: {reason} It does not "
            "show whose statistics are false, and nothing of the round is applied. To "
            "find out, run without some of the parties, or, if the server may see "
            "each party's statistics, set `privacy.secure-sum` to false."
        )


@dataclass(frozen=True, slots=True)
class PooledRounds:
    """The secure sums of the rounds of one merge.

    Attributes:
        starts_again: Whether a round whose first sums are known may start again: the
            difference of two sums would be the share of whoever is not in the second.
        registry: The parties.
        edited: All edited layers.
        limits: Upper bounds on what one party sends.
        sessions: The keys of each round.
    """

    starts_again: ClassVar[bool] = False
    registry: PartyRegistry
    edited: Mapping[int, EditedLayer]
    limits: Limits
    sessions: SecureSessions

    def begin(self, grid: Grid, job: Job, *, memory: bool = False) -> None:
        """Exchange the keys of all sums of a round; of round 0, of the metrics alone.

        Args:
            grid: Flower's connection to the nodes.
            job: Says which round.
            memory: Whether keys are read again after the round.
        """
        later = [name_layers(layers) for layers in job.plan.exchanges[1:]]
        first = [ANSWERS, TARGETS] if job.pools_moments else [TARGETS]
        edits = [*first, *later, *([MEMORY] if memory else [])]
        sums = [*(edits if job.round > 0 else ()), METRICS]
        self.sessions.begin(grid, job, sums)

    def sum_answers(
        self,
        grid: Grid,
        job: Job,
        messages: Sequence[Message],
        asked: AnswerSum,
        whole: Whole = None,
    ) -> tuple[dict[Shape, Moments], Whole]:
        """Sum the moments of keys and gradients of a round.

        A party that is lost afterwards stays in the moments: a second sum without it
        would show its own.

        Args:
            grid: Flower's connection to the nodes.
            job: Says which round.
            messages: The question to each party.
            asked: What the sum is of, and what it can be.
            whole: As `SecureSessions.collect` has it.

        Raises:
            ImpossibleSumError: If no parties' edits can have it.
        """
        request = self.sessions.ask(ANSWERS)
        opened = self.sessions.collect(grid, messages, request, asked.lengths, whole)
        found = {name: torch.from_numpy(each) for name, each in opened.vectors.items()}
        try:
            pooled = replace(self.limits, pooled=True)
            return asked.check(found, pooled, job.round, -1), None
        except StatisticsError as error:
            raise ImpossibleSumError(job.round, str(error)) from None

    def sum_targets(
        self,
        grid: Grid,
        job: Job,
        messages: Sequence[Message],
        whole: Sequence[int] | None = None,
    ) -> Aggregation | None:
        """Sum the first statistics of a round, and the summaries of its targets.

        Args:
            grid: Flower's connection to the nodes.
            job: Says which round, and which layers.
            messages: The question to each party.
            whole: As `SecureSessions.collect` has it.

        Returns:
            The pooled statistics of each layer; None if nobody has an edit.

        Raises:
            ImpossibleSumError: If no parties' edits can have them.
        """
        outcome = self.registry.outcomes[job.round]
        request = self._ask(TARGETS, job)
        lengths = {SUMMARY: 5, **self._lengths(request)}
        opened = self.sessions.collect(grid, messages, request, lengths, whole)
        try:
            targets = unpack_summary(opened.vectors)
            pooled = replace(self.limits, pooled=True)
            pooled.validate_targets(targets, job.round, -1)
            outcome.targets[POOLED] = targets
            if targets.requests == 0:
                return None
            statistics = self._read(request, opened.vectors)
            outcome.edits[POOLED] = pooled.count_edits(statistics, targets)
        except StatisticsError as error:
            raise ImpossibleSumError(job.round, str(error)) from None
        return self._aggregate(job, Phase.TARGETS, statistics, opened)

    def sum_statistics(
        self, grid: Grid, job: Job, messages: Sequence[Message], name: str
    ) -> Aggregation:
        """Sum the statistics of a job's layers, on the model as it is by then.

        A party that is lost before is not in the sum; it was in those before, which
        cannot be taken back.

        Args:
            grid: Flower's connection to the nodes.
            job: Says which round, and which layers.
            messages: The question to each party.
            name: Which sum of the round.

        Raises:
            ImpossibleSumError: If no parties' edits can have them.
        """
        request = self._ask(name, job)
        lengths = self._lengths(request)
        opened = self.sessions.collect(grid, messages, request, lengths)
        try:
            statistics = self._read(request, opened.vectors)
        except StatisticsError as error:
            raise ImpossibleSumError(job.round, str(error)) from None
        phase = Phase.MEMORY if name == MEMORY else Phase.STATISTICS
        return self._aggregate(job, phase, statistics, opened)

    def sum_metrics(
        self, grid: Grid, number: int, messages: Sequence[Message]
    ) -> EvaluationSums:
        """Sum the parties' metrics; what cannot be unmasked or right is left out.

        Their edits are in the round by then.
        """
        request = self.sessions.ask(METRICS)
        size = len(pack_metrics(EvaluationSums(), number)[METRICS])
        pooled = replace(self.limits, pooled=True)
        most = pooled.requests_until(number, -1)
        try:
            opened = self.sessions.collect(grid, messages, request, {METRICS: size})
            found = unpack_metrics(opened.vectors)
            return decode_metrics(encode_metrics(found), most)
        except (StatisticsError, TooFewPartiesError, UnopenedSumError) as error:
            logger.warning("round %d has no metrics: %s", number, error)
            return EvaluationSums()

    def _aggregate(
        self,
        job: Job,
        phase: Phase,
        statistics: dict[int, LayerStatistics],
        opened: OpenedSum,
    ) -> Aggregation:
        observe = self.registry.callbacks.on_sum
        observe(phase, statistics, opened.digest, opened.parties)
        aggregation = Aggregation(job.round, job.layers, self.edited)
        aggregation.add(statistics)
        return aggregation

    def _ask(self, name: str, job: Job) -> MaskedRequest:
        """Write the question for the statistics of a job's layers."""
        request = self.sessions.ask(name)
        limits, number = self.limits, job.round
        edits = [
            limits.requests_of(number, party) * limits.rows for party in request.members
        ]
        rows, forms, bits = sum(edits), {}, dict[str, int]()
        for layer in job.layers:
            shape = self._shape(layer)
            bounds = self.edited[layer].bounds
            forms[layer] = shape.choose_form(rows, job.encoding, bounds)
            bits |= shape.bits(forms[layer], rows, bounds)
        capacities = [int(each) if math.isfinite(each) else 0 for each in edits]
        return request.model_copy(
            update={"capacities": tuple(capacities), "forms": forms, "bits": bits}
        )

    def _lengths(self, request: MaskedRequest) -> dict[str, int]:
        lengths = {COUNT: 1}
        for layer, form in request.forms.items():
            lengths |= self._shape(layer).lengths(form, request.rows)
        return lengths

    def _read(
        self, request: MaskedRequest, vectors: Vectors
    ) -> dict[int, LayerStatistics]:
        """Read and validate the pooled statistics; see `check_norms` for what fails."""
        count = to_count(float(vectors[COUNT][0]))
        check_count(count)
        found = {}
        for layer, form in request.forms.items():
            shape = self._shape(layer)
            found[layer] = unpack_layer(vectors, shape, form, request.rows, count)
            check_norms(found[layer], self.edited[layer].bounds)
        return found

    def _shape(self, layer: int) -> LayerShape:
        edited = self.edited[layer]
        return LayerShape(layer, edited.d_in, edited.d_out)


def name_layers(layers: Sequence[int]) -> str:
    """Name the sum of an exchange of later layers."""
    return "layers " + " ".join(map(str, layers))
