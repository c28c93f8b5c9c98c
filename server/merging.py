"""One merge over all its rounds, and what is kept of each."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from flwr.app import ArrayRecord, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from torch import Tensor

from server.checkpoints import Checkpoints, Measured, MergeProgress
from server.config import RunConfig
from server.evaluation import evaluate_held_out, summarise, to_delta
from server.monitoring.progress import Progress
from server.preparation import Preparation
from strategies.collaborative import CollaborativeEditing
from strategies.conflicts.arbiter import Arbiter
from strategies.methods import Method
from strategies.rounds.registry import PartyRegistry
from strategies.rounds.state import RoundState


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method came to."""

    method: Method
    delta: dict[str, Tensor]
    measured: Measured

    @property
    def bytes_per_party(self) -> float:
        """What a party sent, mean over those that sent something."""
        sent = [size for size in self.measured.sent.values() if size > 0]
        return sum(sent) / max(len(sent), 1)


@dataclass(frozen=True, slots=True)
class MergeJob:
    """What all merges of a run are run with."""

    grid: Grid
    config: RunConfig
    preparation: Preparation
    progress: Progress
    checkpoints: Checkpoints

    def run(self, method: Method, *, first: bool) -> Outcome:
        """Run the rounds that are missing, on the model as the last whole one left it.

        The first merge has the model evaluated before any edit.
        """
        found = self.checkpoints.find(method.name)
        rounds = self.config.run.rounds
        if found.state.number >= rounds:
            log(
                logging.INFO,
                "%s: all %d rounds were finished before, and are reported as they were",
                method.name,
                rounds,
            )
            return Outcome(method, dict(found.state.delta), found.measured)
        self.progress.begin(method.name, found.state.number)
        ledger = Ledger(method.name, self.checkpoints, found.measured, self.progress)
        strategy = self.build(method, ledger, evaluate_unedited=first)
        if found.state.number > 0:
            strategy.resume(found.state)
        strategy.start(
            self.grid,
            ArrayRecord(),
            num_rounds=rounds,
            timeout=self.config.run.timeout,
            evaluate_fn=held_out_evaluator(self.preparation),
        )
        return Outcome(method, strategy.delta, ledger.measured)

    def build(
        self, method: Method, ledger: "Ledger", *, evaluate_unedited: bool
    ) -> CollaborativeEditing:
        """Set the strategy up as the settings say."""
        config, preparation = self.config, self.preparation
        strategy = CollaborativeEditing(
            preparation.job(config, method.name, pooled=method.pooled),
            method.merge,
            preparation.layers(preparation.memory_weight(config.prior), config.run),
            parties=config.parties.count,
            min_parties=config.run.min_parties,
            dtype=preparation.model.dtype,
            evaluate_unedited=evaluate_unedited,
            memory_keys=config.prior.memory_keys,
            arbiter=Arbiter(config.parties) if config.parties.compares_tokens else None,
            report=self.progress.of_merge(method.name),
            on_exchange=self.progress.of_exchanges(method.name),
            on_round=ledger.enter,
            limits=preparation.limits(config, pooled=method.pooled),
        )
        ledger.registry = strategy.registry
        return strategy


class Ledger:
    """Enters what each round came to, and keeps a checkpoint of every whole one."""

    def __init__(
        self, merge: str, checkpoints: Checkpoints, so_far: Measured, progress: Progress
    ) -> None:
        """Go on from what was measured before."""
        self.merge, self.checkpoints, self.measured = merge, checkpoints, so_far
        self.progress = progress
        self.registry: PartyRegistry | None = None
        self._started = time.monotonic() - so_far.seconds

    def enter(
        self, state: RoundState, found: MetricRecord | None, own: MetricRecord | None
    ) -> None:
        """Add a round; a `strategies.collaborative.OnRound`."""
        assert self.registry is not None
        outcome = self.registry.outcomes[state.number]
        metrics = summarise(found, outcome, held_out_of(own), state.number)
        sent = dict(self.measured.sent)
        for node, size in outcome.bytes_up.items():
            party = self.registry.seats[node]
            sent[party] = sent.get(party, 0) + size
        self.measured = self.measured.model_copy(
            update={
                "rounds": (*self.measured.rounds, metrics)
                if state.number > 0
                else self.measured.rounds,
                "before": metrics if state.number == 0 else self.measured.before,
                "seconds": time.monotonic() - self._started,
                "sent": sent,
            }
        )
        # First, so that no round is kept as finished without its line.
        self.progress.enter(self.merge, state.number, metrics)
        if state.number > 0:
            self.checkpoints.keep(self.merge, MergeProgress(state, self.measured))


def held_out_evaluator(
    preparation: Preparation,
) -> Callable[[int, ArrayRecord], MetricRecord | None] | None:
    """Judge facts that nobody edited, after each round, at the server."""
    if not preparation.held_out:
        return None

    def judge(_: int, arrays: ArrayRecord) -> MetricRecord:
        delta = to_delta(arrays)
        share = evaluate_held_out(preparation.model, preparation.held_out, delta)
        return MetricRecord({"held_out_acc": share})

    return judge


def held_out_of(record: MetricRecord | None) -> float | None:
    """The share that `held_out_evaluator` found."""
    return None if record is None else float(str(record["held_out_acc"]))
