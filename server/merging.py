"""One merge over all its rounds, and the record of each."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from torch import Tensor

from editing.algebra.deltas import Delta
from editing.algebra.statistics import LayerStatistics
from editing.models.loading import EditableModel
from editing.sources.embedded import resolve_model
from server.checkpoints import Checkpoints, Measured, MergeProgress
from server.config import RunConfig, read_run_config
from server.evaluation import (
    HeldOutFact,
    evaluate_held_out,
    measure_for_gate,
    summarise,
    to_delta,
)
from server.federated_covariance import TextPool
from server.kept_statistics import KeptStatistics
from server.monitoring.stream import EventStream
from server.preparation import Preparation, prepare
from server.report.parties import PartyBook
from strategies.collaborative import CollaborativeEditing
from strategies.gate.gate import Gate
from strategies.methods import Method
from strategies.rounds.callbacks import (
    CompletedRound,
    MergedLayers,
    RoundCallbacks,
    ServerEvaluation,
)
from strategies.rounds.exchange import ExchangeRecord
from strategies.rounds.settings import EditingSettings
from strategies.scenario import FlatConfig
from strategies.wire.arrays import digest_arrays
from strategies.wire.messages import Phase
from strategies.wire.metrics import EvaluationSums

CAPABILITY = "capability"
"""The phase in which the server measures the whole model."""

MeasureCapability = Callable[[str, int, Delta], dict[str, float]]
"""Measures the model with the updates of a merge after a round."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one method."""

    method: Method
    delta: dict[str, Tensor]
    measured: Measured

    @property
    def bytes_per_party(self) -> float:
        """Bytes that a party sent, mean over those that sent something."""
        sent = [size for size in self.measured.sent.values() if size > 0]
        return sum(sent) / max(len(sent), 1)

    @property
    def capabilities(self) -> set[str]:
        """The names of what was measured of the whole model."""
        return {name for each in self.measured.rounds for name in each.capability}

    @property
    def rounding(self) -> float | None:
        """How far rounding may have moved an update, relative to its norm.

        It is the largest over weights; None if it is not known of one.
        """
        found = [
            None if moved is None else moved**0.5 / float(self.delta[name].norm())
            for name, moved in self.measured.rounding.items()
        ]
        known = [each for each in found if each is not None]
        return max(known) if known and len(known) == len(found) else None


@dataclass(frozen=True, slots=True)
class MergeJob:
    """What all merges of a run share.

    Attributes:
        grid: The nodes.
        config: The run's settings.
        preparation: What was made before the first round.
        stream: Where events go.
        checkpoints: The state of each merge.
        held_out: The held-out accuracies so far, by the digest of the updates.
        statistics: Where those of each party are kept; None if they are not.
    """

    grid: Grid
    config: RunConfig
    preparation: Preparation
    stream: EventStream
    checkpoints: Checkpoints
    held_out: dict[str, float] = field(default_factory=dict)
    statistics: Path | None = None

    def run(self, method: Method, *, first: bool) -> Outcome:
        """Run the missing rounds, after the last completed one.

        The first merge has the model evaluated before any edit.
        """
        found = self.checkpoints.find(method.name)
        rounds = self.config.run.rounds
        if found.state.number >= rounds:
            log(
                logging.INFO,
                "%s: all %d rounds were completed before; their results are reported",
                method.name,
                rounds,
            )
            return Outcome(method, dict(found.state.delta), found.measured)
        self.stream.begin_merge(method.name, found.state.number)
        kept = KeptStatistics.of(self.statistics, method.name)
        epsilon = torch.finfo(self.preparation.model.dtype).eps
        ledger = Ledger(
            method.name,
            self.checkpoints,
            found.measured,
            self.stream,
            kept,
            epsilon if method.pooled else None,
            self.measure_capability,
        )
        strategy = self.build(method, ledger, evaluate_unedited=first)
        if found.state.number > 0:
            strategy.resume(found.state)
        strategy.start(
            self.grid,
            ArrayRecord(),
            num_rounds=rounds,
            timeout=self.config.run.timeout,
            evaluate_fn=held_out_evaluator(
                self.preparation.model, self.preparation.held_out, self.held_out
            ),
        )
        return Outcome(method, strategy.delta, ledger.measured)

    def measure_capability(
        self, merge: str, number: int, delta: Delta
    ) -> dict[str, float]:
        """Measure the whole model after a round, where that is due."""
        prepared = self.preparation
        if not self.config.capability.is_due(number, self.config.run.rounds):
            return {}
        self.stream.report_progress(CAPABILITY, 0, 1, merge, number)
        found = prepared.capability(prepared.model, delta)
        self.stream.report_progress(CAPABILITY, 1, 1, merge, number)
        return found

    def build(
        self, method: Method, callbacks: RoundCallbacks, *, evaluate_unedited: bool
    ) -> CollaborativeEditing:
        """Build the strategy from the settings."""
        config, preparation = self.config, self.preparation
        gated = config.gate.requests > 0
        if gated:
            measure = measure_for_gate(
                preparation.model,
                preparation.held_out,
                config.gate,
                resolve_model(config.model.path),
            )
            callbacks = Gate(callbacks, config.gate, method.merge, measure)
        settings = EditingSettings(
            job=preparation.job(config, method.name, pooled=method.pooled),
            merge=method.merge,
            layers=preparation.layers(
                preparation.memory_weight(config.prior),
                config.run,
                sums=method.sums,
                editor=config.editor.build(),
            ),
            parties=config.parties.count,
            min_parties=config.run.min_parties,
            dtype=preparation.model.dtype,
            encoding_down=config.run.encoding_down,
            evaluate_unedited=evaluate_unedited,
            evaluate_every=1 if gated else config.evaluation.every,
            memory_keys=config.prior.memory_keys,
            conflicts=config.parties.conflict_rules,
            limits=preparation.limits(config, pooled=method.pooled, sums=method.sums),
            secure=bool(config.privacy.secure_sum) and not method.pooled,
        )
        return CollaborativeEditing(settings, callbacks)


def strategy_from_config(
    config: FlatConfig, grid: Grid, callbacks: RoundCallbacks | None = None
) -> CollaborativeEditing:
    """Build the strategy for a `ServerApp` of one's own; `start` runs it.

    A mistake in the settings is a `ConfigurationError`.

    Args:
        config: The run's settings as Flower carries them; those left out have their
            defaults.
        grid: The nodes, which are asked for their texts if the covariance is federated.
        callbacks: Methods to call with progress and completed rounds.
    """
    settings = read_run_config(config)
    prepared = prepare(settings, texts=TextPool(lambda: grid, settings))
    job = MergeJob(grid, settings, prepared, EventStream(), Checkpoints(None, {}))
    method = settings.merge.build()
    return job.build(method, callbacks or RoundCallbacks(), evaluate_unedited=False)


class StreamCallbacks(RoundCallbacks):
    """Publish progress and exchanges in the run's event stream."""

    def __init__(self, stream: EventStream, merge: str) -> None:
        """Name the merge in its events."""
        self.stream, self.merge = stream, merge
        self._on_progress = stream.of_merge(merge)
        self._on_exchange = stream.of_exchanges(merge)

    def on_progress(self, phase: str, number: int, arrived: int, expected: int) -> None:
        """Publish progress."""
        self._on_progress(phase, number, arrived, expected)

    def on_exchange(self, record: ExchangeRecord) -> None:
        """Publish an exchange."""
        self._on_exchange(record)


class Ledger(StreamCallbacks):
    """Record the metrics of each round, and keep a checkpoint of completed ones."""

    def __init__(
        self,
        merge: str,
        checkpoints: Checkpoints,
        so_far: Measured,
        stream: EventStream,
        kept: KeptStatistics | None = None,
        epsilon: float | None = None,
        capability: MeasureCapability | None = None,
    ) -> None:
        """Continue after what was measured before.

        What rounding to a precision of `epsilon` moves is estimated, if that is given;
        then one party has all requests. The whole model is measured by `capability`.
        """
        super().__init__(stream, merge)
        self._epsilon, self._own = epsilon, dict[int, LayerStatistics]()
        self._parties = PartyBook(so_far.parties)
        self.checkpoints, self.measured = checkpoints, so_far
        self._kept = kept or KeptStatistics()
        self._measure = capability
        self._started = time.monotonic() - so_far.seconds

    def on_attempt(self, number: int) -> None:
        """Keep nothing of what a round had before it started again."""
        self._kept.begin(number)
        self._parties.begin_round()

    def on_exchange(self, record: ExchangeRecord) -> None:
        """Publish an exchange, and add it to what is known of its party."""
        super().on_exchange(record)
        self._parties.add_exchange(record)

    def on_metrics(self, party: int, evaluation: EvaluationSums) -> None:
        """Keep the metrics of a party, which are its own if sums are not masked."""
        self._parties.keep_metrics(party, evaluation)

    def on_statistics(
        self, phase: Phase, layer: int, party: int, statistics: LayerStatistics
    ) -> None:
        """Keep a party's statistics, if those are kept."""
        self._kept.keep(phase, layer, party, statistics)
        if self._epsilon is not None and phase is not Phase.MEMORY:
            self._own[layer] = statistics

    def on_merge(self, merged: MergedLayers) -> None:
        """Add what rounding moves in each layer; errors of rounds are independent."""
        self._parties.label = merged.label
        if self._epsilon is None:
            return
        moved = dict(self.measured.rounding)
        for layer, edited in merged.layers.items():
            name, before = edited.weight, merged.before.get(edited.weight)
            written = merged.after[name]
            written = written if before is None else written - before
            system = edited.editor.system(edited.state(before))
            own, share = self._own.pop(layer, None), None
            # Steps after the merge may have thresholds.
            if own is not None and not edited.editor.post:
                share = system.expected_rounding(own, written, self._epsilon)
            so_far = moved.get(name, 0.0)
            if share is None or so_far is None:
                moved[name] = None
            else:
                moved[name] = so_far + (share * float(written.norm())) ** 2
        self.measured = self.measured.model_copy(update={"rounding": moved})

    def on_sum(
        self,
        phase: Phase,
        statistics: Mapping[int, LayerStatistics],
        digest: str,
        parties: Sequence[int],
    ) -> None:
        """Keep a secure sum, if statistics are kept, and note who is in it."""
        self._parties.add_sum(parties)
        for layer, each in statistics.items():
            self._kept.keep_sum(phase, layer, each, digest, parties)

    def on_round_end(self, completed: CompletedRound) -> None:
        """Add a round to the record, report it and keep it."""
        state = completed.state
        self._kept.end(state.number)
        metrics = summarise(
            completed.evaluation,
            completed.outcome,
            held_out_of(completed.server_metrics),
            state.number,
        )
        if self._measure is not None:
            found = self._measure(self.merge, state.number, state.delta)
            metrics = metrics.model_copy(update={"capability": found})
        sent = dict(self.measured.sent)
        for party, size in completed.bytes_sent.items():
            sent[party] = sent.get(party, 0) + size
        # Under `global` one node represents all parties, and is none of them.
        pooled = self._epsilon is not None
        self.measured = self.measured.model_copy(
            update={
                "parties": () if pooled else self._parties.end_round(completed),
                "rounds": (*self.measured.rounds, metrics)
                if state.number > 0
                else self.measured.rounds,
                "before": metrics if state.number == 0 else self.measured.before,
                "seconds": time.monotonic() - self._started,
                "sent": sent,
            }
        )
        if metrics.gate:
            accepted = "Gate: %s, round %d accepted; %s"
            log(logging.INFO, accepted, self.merge, state.number, metrics.gate)
        # First, so that no round is kept as completed without its line.
        self.stream.end_round(self.merge, state.number, metrics)
        if state.number > 0:
            self.checkpoints.keep(self.merge, MergeProgress(state, self.measured))


def held_out_evaluator(
    model: EditableModel, facts: Sequence[HeldOutFact], known: dict[str, float]
) -> ServerEvaluation | None:
    """Return what evaluates facts that no party edited, once for the same updates.

    Args:
        model: The model, unedited.
        facts: What no party edited.
        known: Accuracies by the digest of the updates; grows.
    """
    if not facts:
        return None

    def evaluate(_: int, arrays: ArrayRecord) -> MetricRecord:
        name = digest_arrays(arrays)
        if name not in known:
            known[name] = evaluate_held_out(model, facts, to_delta(arrays))
        return MetricRecord({"held_out_acc": known[name]})

    return evaluate


def held_out_of(record: MetricRecord | None) -> float | None:
    """Return the share that `held_out_evaluator` found."""
    return None if record is None else float(str(record["held_out_acc"]))
