"""The release gate of a run: it watches the rounds, and stops one that does harm.

It measures the model after each exchange that merged layers, so that the exchange that
did it is blamed, and not who answers on the model that it made. It reads, and changes
nothing of what is merged.
"""

import logging
from collections.abc import Callable, Iterator, Mapping

from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.algebra.influence import residual_left
from editing.algebra.statistics import LayerStatistics
from strategies.gate.decision import (
    GateConfig,
    Measures,
    find_culprit,
    find_faults,
    find_opponent,
)
from strategies.gate.leaving_out import weigh, without_each
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge
from strategies.rounds.callbacks import CompletedRound, MergedLayers, RoundCallbacks
from strategies.rounds.exchange import ExchangeRecord
from strategies.wire.messages import Phase
from strategies.wire.metrics import EvaluationSums

logger = logging.getLogger(__name__)

Measure = Callable[[Mapping[str, Tensor]], Measures]
"""Measures the model with all updates so far, by parameter name."""

SUCCESSES = ("rewrite_success", "rewrite_acc")
"""What tells whether an edit took effect; the latter without a true object."""


class StoppedRoundError(AggregationError):
    """The update of a round that is not accepted."""

    def __init__(self, number: int, what: str, whose: str) -> None:
        """Give the round, what is wrong with its update, and whose statistics did it."""
        super().__init__(
            f"Round {number} is stopped, and nothing of it is applied: {what}. {whose}"
        )


class Gate(RoundCallbacks):
    """Tells other callbacks what happens, and of a round's end if it is accepted."""

    def __init__(
        self, inner: RoundCallbacks, config: GateConfig, merge: Merge, measure: Measure
    ) -> None:
        """Watch the rounds of one merge.

        Args:
            inner: What is told.
            config: The limits.
            merge: The run's.
            measure: Measures an update.
        """
        self.inner, self.config, self.merge = inner, config, merge
        self.measure = measure
        self._forget()

    def _forget(self) -> None:
        self._before: Measures | None = None
        self._merged: MergedLayers | None = None
        self._parts: dict[int, dict[int, LayerStatistics]] = {}
        self._claims: dict[int, EvaluationSums] = {}

    def on_progress(self, phase: str, number: int, arrived: int, expected: int) -> None:
        """Pass progress on."""
        self.inner.on_progress(phase, number, arrived, expected)

    def on_exchange(self, record: ExchangeRecord) -> None:
        """Pass an exchange on."""
        self.inner.on_exchange(record)

    def on_attempt(self, number: int) -> None:
        """Forget what a round had before it started again."""
        self._forget()
        self.inner.on_attempt(number)

    def on_statistics(
        self, phase: Phase, layer: int, party: int, statistics: LayerStatistics
    ) -> None:
        """Hold a party's statistics until the next exchange is merged."""
        if phase is not Phase.MEMORY:
            self._parts.setdefault(layer, {})[party] = statistics
        self.inner.on_statistics(phase, layer, party, statistics)

    def on_merge(self, merged: MergedLayers) -> None:
        """Measure the layers that an exchange has merged.

        Raises:
            StoppedRoundError: If a limit is exceeded.
        """
        self._parts = {layer: self._parts.get(layer, {}) for layer in merged.layers}
        self._merged = merged
        if isinstance(self.merge, CollabEditMerge) and all(self._parts.values()):
            for layer, found in weigh(self._parts, merged.layers).items():
                merged.outcome.influences[layer] = found
        if self._before is None:
            self._before = self.measure(merged.before)
        faults = find_faults(self._before, self.measure(merged.after), self.config)
        if faults:
            layers = ", ".join(map(str, merged.layers))
            what = f"with the update of layer {layers}, {'; '.join(faults)}"
            whose = self._find_culprit(merged, self._before)
            raise StoppedRoundError(merged.number, what, whose)
        self.inner.on_merge(merged)

    def on_metrics(self, party: int, evaluation: EvaluationSums) -> None:
        """Keep what a party says of its own requests."""
        self._claims[party] = evaluation
        self.inner.on_metrics(party, evaluation)

    def on_round_end(self, completed: CompletedRound) -> None:
        """Ask whether the parties' own requests have taken effect, and pass it on.

        Raises:
            StoppedRoundError: If a party's have not, another's statistics are why.
        """
        if completed.state.number > 0 and self._merged is not None:
            self._check_success(completed.state.number, self._merged, completed)
        self._forget()
        self.inner.on_round_end(completed)

    def _find_culprit(self, merged: MergedLayers, before: Measures) -> str:
        if not all(self._parts.values()):
            return unknown_culprit()
        found = {
            party: self.measure({**merged.after, **updates})
            for party, updates in self._leave_out(merged)
        }
        culprit = find_culprit(before, found, self.config)
        if culprit is None:
            return "No single party's absence mends it."
        label = merged.label(culprit)
        held = found[culprit].held_out
        return (
            f"Without {label} it does no harm: {held:.1f} per cent of the held-out "
            f"facts are answered. {repeat_without(culprit, label)}"
        )

    def _leave_out(
        self, merged: MergedLayers
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield all updates so far of the merged layers, without each party in turn."""
        if any(len(by_party) < 2 for by_party in self._parts.values()):
            return
        for party, solved in without_each(self._parts, merged.layers, self.merge):
            yield (
                party,
                {
                    name: update + merged.before.get(name, 0.0)
                    for name, update in solved.items()
                },
            )

    def _check_success(
        self, number: int, merged: MergedLayers, completed: CompletedRound
    ) -> None:
        """Compare what parties say with what their statistics say."""
        if not all(self._parts.values()):
            if self._fails(completed.evaluation, number):
                what = "fewer of the parties' requests have taken effect than allowed"
                what += f" (`gate.min-success`, {self.config.min_success:g} per cent)"
                raise StoppedRoundError(number, what, unknown_culprit())
            return
        failed = [p for p, own in self._claims.items() if self._fails(own, number)]
        found = {
            party: opponent
            for party in failed
            if (opponent := self._find_opponent(party, merged)) is not None
        }
        for party in [each for each in failed if each not in found]:
            logger.warning(
                "%s says that its requests have no effect, and its statistics do not "
                "show that another party is why",
                merged.label(party),
            )
        if found:
            what = "; ".join(explain_pair(merged, *pair) for pair in found.items())
            raise StoppedRoundError(number, what, whose_of_pairs(merged, found))

    def _fails(self, own: EvaluationSums, number: int) -> bool:
        means = own.of_round(number).means()
        known = [means[name] for name in SUCCESSES if name in means]
        return bool(known) and known[0] < self.config.min_success

    def _find_opponent(self, party: int, merged: MergedLayers) -> int | None:
        """Return whose absence lets a party's edits take effect, in the last layer."""
        layer = max(self._parts)
        part, name = self._parts[layer].get(party), merged.layers[layer].weight
        if part is None:
            return None
        before = merged.before.get(name, 0.0)
        left = residual_left(part, merged.after[name] - before)
        without = {
            other: residual_left(part, updates[name] - before)
            for other, updates in self._leave_out(merged)
            if other != party
        }
        return find_opponent(left, without)


def explain_pair(merged: MergedLayers, party: int, other: int) -> str:
    """Say that one party's requests have no effect because of another's."""
    return (
        f"the requests of {merged.label(party)} have no effect, and have without "
        f"the statistics of {merged.label(other)}"
    )


def whose_of_pairs(merged: MergedLayers, opponents: Mapping[int, int]) -> str:
    """Say whom to leave out, or that two parties contradict each other."""
    mutual = [p for p, other in opponents.items() if opponents.get(other) == p]
    one_sided = sorted({o for p, o in opponents.items() if p not in mutual})
    words = [repeat_without(other, merged.label(other)) for other in one_sided]
    if mutual:
        named = " and ".join(merged.label(party) for party in mutual)
        words.append(
            f"{named} contradict each other, and the server cannot tell who is right."
        )
    return " ".join(words)


def repeat_without(party: int, label: str) -> str:
    """Say how to repeat the round."""
    return f"To repeat the round without {label}, add `parties.without = [{party}]`."


def unknown_culprit() -> str:
    """Say why nobody is named."""
    return (
        "The server has no statistics of single parties and cannot tell whose they "
        "are. To repeat the round without some, list their numbers in "
        "`parties.without`."
    )
