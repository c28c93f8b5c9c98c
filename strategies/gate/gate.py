"""The release gate of a run: it watches the rounds, and stops one that does harm.

It measures the model after each exchange that merged layers, so that the exchange that
did it is blamed, and not who answers on the model that it made. It reads, and changes
nothing of what is merged.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from flwr.serverapp.exception import AggregationError
from torch import Tensor

from editing.algebra.influence import residual_left
from editing.algebra.statistics import LayerStatistics
from strategies.gate.decision import (
    GateConfig,
    Measures,
    describe_measures,
    find_cause,
    find_culprit,
    find_faults,
)
from strategies.gate.leaving_out import move_text, weigh, without_each
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge
from strategies.rounds.callbacks import CompletedRound, MergedLayers, RoundCallbacks
from strategies.rounds.exchange import ExchangeRecord
from strategies.wire.messages import Phase
from strategies.wire.metrics import EvaluationSums

logger = logging.getLogger(__name__)

Measure = Callable[[Mapping[str, Tensor]], Measures]
"""Measures the model with all updates so far, by parameter name."""

TINY = 1e-30
"""Instead of no distance, to divide by."""

NOBODY = "No single party is found at fault."

SUCCESSES = ("rewrite_success", "rewrite_acc")
"""What tells whether an edit took effect; the latter without a true object."""


class StoppedRoundError(AggregationError):
    """The update of a round that is not accepted."""

    def __init__(self, number: int, what: str, whose: str) -> None:
        """Give the round, what is wrong with its update, and who did it."""
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
            inner: What is called next.
            config: The limits.
            merge: The run's.
            measure: Measures an update.
        """
        self.inner, self.config, self.merge = inner, config, merge
        self.measure = measure
        self._forget()

    def _forget(self) -> None:
        self._before: Measures | None = None
        self._after: Measures | None = None
        self._merged: list[MergedLayers] = []
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

    def on_sum(
        self,
        phase: Phase,
        statistics: Mapping[int, LayerStatistics],
        digest: str,
        parties: Sequence[int],
    ) -> None:
        """Pass a secure sum on."""
        self.inner.on_sum(phase, statistics, digest, parties)

    def on_merge(self, merged: MergedLayers) -> None:
        """Measure the layers that an exchange has merged.

        Raises:
            StoppedRoundError: If a limit is exceeded.
        """
        self._merged.append(merged)
        if isinstance(self.merge, CollabEditMerge) and self._knows(merged):
            for layer, found in weigh(
                self._parts_of(merged), merged.layers, merged.before
            ).items():
                named = {merged.label(party): each for party, each in found.items()}
                merged.outcome.influences[layer] = named
        if self._before is None:
            self._before = self.measure(merged.before)
        self._after = self.measure(merged.after)
        faults = find_faults(self._before, self._after, self.config)
        if faults:
            layers = ", ".join(map(str, merged.layers))
            what = f"with the update of layer {layers}, {'; '.join(faults)}"
            raise StoppedRoundError(merged.number, what, self._name_culprit(merged))
        self.inner.on_merge(merged)

    def on_long_residuals(
        self, number: int, why: str, parties: Collection[int]
    ) -> None:
        """Say whose statistics made the model worse, unless it is their own party's.

        Raises:
            StoppedRoundError: If they are another's, or residuals of several parties
                became too long.
        """
        self.inner.on_long_residuals(number, why, parties)
        found = self._look_back()
        if len(parties) > 1 or (found is not None and found[0] not in parties):
            raise StoppedRoundError(number, why, found[1] if found else NOBODY)

    def on_metrics(self, party: int, evaluation: EvaluationSums) -> None:
        """Keep what a party says of its own requests."""
        self._claims[party] = evaluation
        self.inner.on_metrics(party, evaluation)

    def on_round_end(self, completed: CompletedRound) -> None:
        """Ask whether the parties' own requests took effect, and pass the end on.

        The round's outcome then says what it cost.
        """
        if completed.state.number > 0 and self._merged:
            self._check_success(self._merged[-1], completed.evaluation)
            assert self._before is not None
            assert self._after is not None
            completed.outcome.gate = describe_measures(
                self._before, self._after, self.config.requests
            )
        self._forget()
        self.inner.on_round_end(completed)

    def _parts_of(self, merged: MergedLayers) -> dict[int, dict[int, LayerStatistics]]:
        return {layer: self._parts.get(layer, {}) for layer in merged.layers}

    def _knows(self, merged: MergedLayers) -> bool:
        """Return whether the server has the statistics of single parties."""
        return all(self._parts_of(merged).values())

    def _name_culprit(self, merged: MergedLayers) -> str:
        """Say without whom the round does no harm, as far as it can be found."""
        if not self._knows(merged):
            return unknown_culprit()
        assert self._before is not None
        found = {
            party: self.measure({**merged.after, **updates})
            for party, updates in self._leave_out(merged)
        }
        culprit = find_culprit(self._before, found, self.config)
        if culprit is None:
            earlier = self._look_back()
            return earlier[1] if earlier else NOBODY
        label, held = merged.label(culprit), found[culprit].held_out
        return (
            f"Without {label} it does no harm: {held:.1f} per cent of the held-out "
            f"facts are answered. {repeat_without(culprit, label)}"
        )

    def _look_back(self) -> tuple[int, str] | None:
        """Find the round's first layers whose update one party's statistics spoil.

        Returns:
            The party's id, and what it did; None if there is none.
        """
        for merged in self._merged:
            far, without = self._moves(merged)
            party = find_cause(far, without)
            if party is not None:
                label, layers = merged.label(party), ", ".join(map(str, merged.layers))
                times = far / max(without[party], TINY)
                return party, (
                    f"{label} is at fault: the update of layer {layers} moves plain "
                    f"text {times:.3g} times as far as it does without it. "
                    f"{repeat_without(party, label)}"
                )
        return None

    def _moves(self, merged: MergedLayers) -> tuple[float, dict[int, float]]:
        """Return how far an exchange's update moves text, and without each party.

        Without a party there are fewer edits; squares of distances are compared by
        edit, so that a party with many is not blamed for their number.
        """

        def move(updates: Mapping[str, Tensor]) -> float:
            distances = [
                move_text(updates[e.weight] - merged.before.get(e.weight, 0.0), e)
                for e in merged.layers.values()
            ]
            return math.hypot(*distances)

        first = next(iter(self._parts_of(merged).values()))
        edits = sum(part.count for part in first.values())
        without = {
            party: move(found) / math.sqrt(1 - first[party].count / edits)
            for party, found in self._leave_out(merged)
        }
        return move(merged.after), without

    def _leave_out(
        self, merged: MergedLayers
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield all updates so far of the merged layers, without each party in turn."""
        parts = self._parts_of(merged)
        if any(len(by_party) < 2 for by_party in parts.values()):
            return
        for party, solved in without_each(
            parts, merged.layers, self.merge, merged.number, merged.before
        ):
            yield (
                party,
                {
                    name: update + merged.before.get(name, 0.0)
                    for name, update in solved.items()
                },
            )

    def _check_success(self, merged: MergedLayers, all_parties: EvaluationSums) -> None:
        """Compare what parties say with what their statistics say.

        Raises:
            StoppedRoundError: If those of another are why edits have no effect.
        """
        number = merged.number
        if not self._knows(merged):
            if self._fails(all_parties, number):
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
        layer = max(merged.layers)
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
        return find_cause(left, without)


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
        "The statistics of single parties are masked, and the server cannot tell "
        "whose they are. To repeat the round without some, list their numbers in "
        "`parties.without`. The difference of both sums is theirs, so let them agree, "
        "and leave out several at once."
    )
