"""The one class through which a run reports what happens in its rounds."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Result
from torch import Tensor

from editing.algebra.statistics import LayerStatistics
from strategies.rounds.exchange import ExchangeRecord
from strategies.rounds.state import EditedLayer, RoundOutcome, RoundState
from strategies.wire.messages import Phase
from strategies.wire.metrics import EvaluationSums, encode_metrics

ServerEvaluation = Callable[[int, ArrayRecord], MetricRecord | None]
"""Evaluates the model at the server: round and updates in, metrics out."""


@dataclass(frozen=True, slots=True)
class CompletedRound:
    """A round that is over; number 0 is the model before any edit.

    Attributes:
        state: All that the next round depends on.
        outcome: Who took part, and with how much.
        evaluation: The parties' metrics; empty if none sent any.
        server_metrics: The server's own metrics, if it evaluates.
        bytes_sent: Bytes of statistics by the parties' ids (`Party.id`).
    """

    state: RoundState
    outcome: RoundOutcome
    evaluation: EvaluationSums
    server_metrics: MetricRecord | None
    bytes_sent: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class MergedLayers:
    """Layers that an exchange of the round under way has merged.

    Attributes:
        number: The round.
        layers: The layers, with what they remember of earlier rounds.
        before: All updates by parameter name, before these.
        after: With these.
        outcome: Who takes part in the round so far.
        label: Returns what log and report call the party of an id.
    """

    number: int
    layers: Mapping[int, EditedLayer]
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    outcome: RoundOutcome
    label: Callable[[int], str]


class RoundCallbacks:
    """Methods that are called while rounds run; each does nothing by default."""

    def on_progress(self, phase: str, number: int, arrived: int, expected: int) -> None:
        """Receive progress of an exchange.

        Args:
            phase: The message type.
            number: The round.
            arrived: How many replies there are.
            expected: How many there will be.
        """

    def on_exchange(self, record: ExchangeRecord) -> None:
        """Receive the cost and outcome of one exchange with one node."""

    def on_attempt(self, number: int) -> None:
        """Receive that a round begins, or starts again without what it had so far."""

    def on_statistics(
        self, phase: Phase, layer: int, party: int, statistics: LayerStatistics
    ) -> None:
        """Receive the valid statistics of one party of the round under way.

        Args:
            phase: `Phase.MEMORY` for keys that are read again on the edited model.
            layer: The edited layer.
            party: The party's id (`Party.id`).
            statistics: As they are merged.
        """

    def on_sum(
        self,
        phase: Phase,
        statistics: Mapping[int, LayerStatistics],
        digest: str,
        parties: Sequence[int],
    ) -> None:
        """Receive the statistics of a secure sum, in which no party is known apart.

        Args:
            phase: As `on_statistics` has it.
            statistics: The sum, by layer.
            digest: Of all that its masks are bound to; the parties know it too.
            parties: The numbers of those in it.
        """

    def on_merge(self, merged: MergedLayers) -> None:
        """Receive layers that are merged; what this raises stops the run."""

    def on_long_residuals(
        self, number: int, why: str, parties: Collection[int]
    ) -> None:
        """Receive that residuals became too long after earlier layers of a round.

        Args:
            number: The round.
            why: Whose they are, in words.
            parties: Whose, by their ids; one is refused, if this raises nothing.
        """

    def on_metrics(self, party: int, evaluation: EvaluationSums) -> None:
        """Receive the valid metrics of one party, by its id (`Party.id`)."""

    def on_round_end(self, completed: CompletedRound) -> None:
        """Receive a completed round, and round 0 if it is evaluated."""


def record_metrics(
    result: Result, number: int, found: EvaluationSums, own: MetricRecord | None
) -> MetricRecord | None:
    """Write a round's metrics into the result, where there are some.

    The parties' are the averages over the round's own requests, by their names, and
    the sums and counts of all rounds' requests, by those of `encode_metrics`.

    Args:
        result: Of the run.
        number: The round.
        found: The sums of the parties' metrics.
        own: The server's metrics, which are returned.
    """
    if found.by_round:
        averages = found.of_round(max(number, 1)).means()
        sums = encode_metrics(found)
        result.evaluate_metrics_clientapp[number] = MetricRecord({**averages, **sums})
    if own is not None:
        result.evaluate_metrics_serverapp[number] = own
    return own
