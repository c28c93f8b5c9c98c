"""What each observer of a run holds, and what it says of guesses.

Keys of the first edited layer do not change with the run's updates, so they are tested
in statistics of any round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import LayerStatistics, pool
from server.kept_statistics import EVERYBODY, KeptRound
from sims.audit.scores import (
    Directions,
    Verdict,
    score_leverage,
    score_movement,
    score_span,
    span_of_update,
)

PARTY, SUM, UPDATE = "server, one party", "server, the sum", "holder of the update"
"""The observers; whoever holds the edited model and the base holds the update."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one observer says.

    Attributes:
        observer: Who it is.
        party: Whose statistics they are; None for those of all.
        verdict: Of all guesses.
    """

    observer: str
    party: int | None
    verdict: Verdict


def see_statistics(
    rounds: Sequence[KeptRound], layer: int, keys: Float[Tensor, "n d_in"]
) -> Iterator[Seen]:
    """Test guesses against each party's statistics of all rounds, and their sum.

    Args:
        rounds: The statistics as the server had them.
        layer: The first edited layer.
        keys: Those of the guesses at it.
    """
    by_party: dict[int, list[LayerStatistics]] = {}
    for kept in rounds:
        for party, part in kept.solved.get(layer, {}).items():
            by_party.setdefault(party, []).append(part)
    sums = {party: pool(parts) for party, parts in sorted(by_party.items())}
    for party, own in sums.items():
        if party == EVERYBODY:  # secure sums: no party's are known
            continue
        yield from _see(PARTY, party, own, keys)
    if sums:
        yield from _see(SUM, None, pool(sums.values()), keys)


def see_update(
    update: Float[Tensor, "d_out d_in"],
    prior: Float[Tensor, "d_in d_in"],
    edits: int,
    keys: Float[Tensor, "n d_in"],
) -> Iterator[Seen]:
    """Test guesses against an update of the first edited layer.

    Args:
        update: All rounds'.
        prior: ``C₀``, or a multiple of it.
        edits: How many keys it was solved with at most; beyond `d_out` of them their
            span cannot be read off.
        keys: Those of the guesses.
    """
    if edits <= len(update):
        span = span_of_update(update, prior, edits)
        yield Seen(UPDATE, None, score_span(keys, span))
    yield Seen(UPDATE, None, score_movement(keys, update))


def _see(
    observer: str,
    party: int | None,
    statistics: LayerStatistics,
    keys: Float[Tensor, "n d_in"],
) -> Iterator[Seen]:
    found = Directions.of(statistics)
    yield Seen(observer, party, score_span(keys, found.span))
    yield Seen(observer, party, score_leverage(keys, found))
