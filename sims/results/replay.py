"""A run's rounds solved again from kept statistics, with and without some parties.

A party's cross term of a round is relative to the weight as it was then,
``B = (V − K W_{t−1}ᵀ)ᵀ K`` for outputs ``V`` that are wanted. With the update
``Δ_{t−1}`` of the rounds before, ``B + Δ_{t−1} S`` is relative to the unedited weight
and depends on nobody else, so the cross term on another weight ``W₀ + Δ'_{t−1}`` is
``B + (Δ_{t−1} − Δ'_{t−1}) S``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, Sums, pool
from server.kept_statistics import ByParty, KeptRound
from strategies.merges.base import Merge
from strategies.rounds.state import EditedLayer, remember_round
from strategies.wire.deltas import Updates


@dataclass(frozen=True, slots=True)
class Replay:
    """Updates and memories after some rounds.

    Attributes:
        layers: The edited layers, with what they remember.
        updates: All updates so far.
    """

    layers: Mapping[int, EditedLayer]
    updates: Updates = field(default_factory=Updates)

    def round(
        self,
        solved: Mapping[int, ByParty],
        remembered: Mapping[int, ByParty],
        merge: Merge,
        number: int,
    ) -> "Replay":
        """Solve one more round; without a party nothing changes.

        Args:
            solved: The parties' statistics by layer, relative to these updates.
            remembered: Keys that are remembered instead of those.
            merge: Turns statistics into an update.
            number: The round.
        """
        found, grams, edits = {}, {}, 0
        for layer, by_party in solved.items():
            parts = list(by_party.values())
            if not parts:
                continue
            edited = self.layers[layer]
            edits = sum(part.count for part in parts)
            given = [pool(parts)] if merge.needs == "sum" else parts
            total = self.updates.delta.get(edited.weight)
            found[edited.weight] = edited.merge(merge, given, total, number)
            if edited.remembers(last=False):
                kept = [*remembered[layer].values()] if layer in remembered else parts
                grams[layer] = pool(kept).gram
        updates = self.updates.add(found, edits)
        before, after = self.updates.delta, updates.delta
        layers = remember_round(self.layers, grams, edits, before, after)
        return replace(self, layers=layers, updates=updates)


def leave_out(rounds: Sequence[KeptRound], parties: Collection[int]) -> list[KeptRound]:
    """Return the statistics of all but some parties, by id."""
    return [
        KeptRound(_without(kept.solved, parties), _without(kept.remembered, parties))
        for kept in rounds
    ]


def _without(
    found: Mapping[int, ByParty], parties: Collection[int]
) -> dict[int, ByParty]:
    return {
        layer: {party: part for party, part in parts.items() if party not in parties}
        for layer, parts in found.items()
    }


def replay(
    rounds: Sequence[KeptRound],
    left: Sequence[KeptRound],
    start: Replay,
    merge: Merge,
) -> tuple[Replay, Replay]:
    """Solve all rounds with every party, and of what is left without some of them.

    Keys and targets are taken as given: those of the other parties were read and found
    on the model as it was.

    Args:
        rounds: What was kept.
        left: Of the same rounds, the statistics of those that stay.
        start: The run before its first round.
        merge: The run's.

    Returns:
        The run as it was, and as it would have been.
    """
    whole = rest = start
    for number, (kept, other) in enumerate(zip(rounds, left, strict=True), start=1):
        solved = {}
        for layer, parts in other.solved.items():
            gap = _gap(whole.updates, rest.updates, start.layers[layer].weight)
            solved[layer] = {k: shifted(part, gap) for k, part in parts.items()}
        whole = whole.round(kept.solved, kept.remembered, merge, number)
        rest = rest.round(solved, other.remembered, merge, number)
    return whole, rest


def shifted(
    part: LayerStatistics, gap: Float[Tensor, "d_out d_in"] | None
) -> LayerStatistics:
    """Return statistics relative to a weight that is smaller by `gap`.

    Residuals grow by ``gap · k``, so the cross term grows by ``gap · S``.
    """
    if gap is None:
        return part
    sums = part.sums
    if sums is not None:
        sums = Sums(sums.gram, sums.cross + gap @ sums.gram)
    return replace(part, residuals=part.residuals + part.keys @ gap.mT, sums=sums)


def _gap(whole: Updates, rest: Updates, name: str) -> Tensor | None:
    """How much larger a weight's update is with all parties; None if it is none yet."""
    if name not in whole.delta:
        return None
    delta = whole.delta[name]
    return delta - rest.delta[name] if name in rest.delta else delta
