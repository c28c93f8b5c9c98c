"""Plant duplicate and conflicting requests at a second party.

Planted requests are added to what parties take from their source: a run with them
differs from one without in these alone. All of it follows from the requests and a seed,
round by round and party by party.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TypeAlias

import numpy as np

from editing.requests.conflicts import conflicting
from editing.requests.edit_request import EditRequest, RequestError
from editing.requests.normalise import normalise
from strategies.partitioning.splits import Indices, Round, relation_of

Amount: TypeAlias = int | float
"""How many of a party's requests: a whole number of them, or a share."""

Objects: TypeAlias = Mapping[str, Mapping[str, str]]
"""By relation, the objects that a source names: normalised, and as they are written."""

PLANTING_STREAM = 2
"""Separates the draws of planting from others of the same seed."""


@dataclass(frozen=True, slots=True)
class Planting:
    """How much of each party's requests of a round is planted at the next party.

    Attributes:
        overlap: Requests that the next party makes too, word for word.
        conflicts: Requests that the next party makes with another object.
        seed: Draws which requests, and which objects.
    """

    overlap: Amount = 0
    conflicts: Amount = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PartyRequests:
    """A party's new requests of a round.

    Attributes:
        own: From the source.
        copies: Planted; another party's own requests, under new numbers.
        contradictions: Planted; another party's own requests with other objects.

    A planted request's number is above all of the source: that of its first request is
    the next one, and so on.
    """

    own: tuple[EditRequest, ...] = ()
    copies: tuple[EditRequest, ...] = ()
    contradictions: tuple[EditRequest, ...] = ()

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        """All of them, its own first."""
        return self.own + self.copies + self.contradictions


def planted_number(amount: Amount, size: int) -> int:
    """How many requests an amount is, of `size`; a share is rounded down."""
    if isinstance(amount, int):
        return amount
    # Exact in the decimals that were written: 0.29 of 100 is 29.
    return int(Fraction(repr(amount)) * size)


def planted_sizes(
    sizes: Sequence[int], overlap: Amount, conflicts: Amount
) -> tuple[int, ...]:
    """How many requests are planted at each party of a round with such sizes."""
    found = [0] * len(sizes)
    for giver, taker in next_parties(sizes).items():
        size = sizes[giver]
        wanted = planted_number(overlap, size) + planted_number(conflicts, size)
        found[taker] = min(wanted, size)
    return tuple(found)


def next_parties(sizes: Sequence[int]) -> dict[int, int]:
    """Return the next party that has requests, for each that has some.

    After the last comes the first. A party that is alone in a round has no next one.
    """
    present = [party for party, size in enumerate(sizes) if size]
    if len(present) < 2:
        return {}
    return dict(zip(present, [*present[1:], present[0]], strict=True))


@dataclass(frozen=True)
class Shares:
    """A source partitioned across parties and rounds, with what is planted.

    Attributes:
        pool: The source.
        parties: How many parties there are.
        rounds: Indices in the source, by round and party, as far as it lasts.
        planting: What is planted.
    """

    pool: Sequence[EditRequest]
    parties: int
    rounds: Sequence[Round]
    planting: Planting = Planting()
    _known: dict[int, tuple[PartyRequests, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def in_round(self, number: int) -> tuple[PartyRequests, ...]:
        """New requests of each party in a round, which is counted from 1.

        They are found once for all parties: each of a thousand asks for its own. Too
        few requests that can be contradicted are a `RequestError`.
        """
        if number not in self._known:
            self._known[number] = self._share(number)
        return self._known[number]

    def _share(self, number: int) -> tuple[PartyRequests, ...]:
        """Share the requests of a round out.

        Raises:
            RequestError: If too few requests can be contradicted.
        """
        if number > len(self.rounds):
            return (PartyRequests(),) * self.parties
        places = self.rounds[number - 1]
        planted: dict[int, PartyRequests] = {}
        for giver, taker in next_parties([len(own) for own in places]).items():
            draw = np.random.default_rng(
                (self.planting.seed, PLANTING_STREAM, number, giver)
            )
            party_requests = self._plant(places[giver], draw)
            wanted = planted_number(self.planting.conflicts, len(places[giver]))
            if len(party_requests.contradictions) < min(wanted, len(places[giver])):
                raise RequestError(
                    f"{wanted} requests of party {giver} in round {number} shall be "
                    "contradicted, and the source names another object of the same "
                    f"relation for {len(party_requests.contradictions)} of them. Lower "
                    "`parties.planted-conflicts`, or name a larger source."
                )
            planted[taker] = party_requests
        own = [tuple(self.pool[place] for place in each) for each in places]
        return tuple(
            replace(planted.get(party, PartyRequests()), own=requests)
            for party, requests in enumerate(own)
        )

    def _plant(self, places: Indices, draw: np.random.Generator) -> PartyRequests:
        """Choose which of a party's requests the next one copies, or contradicts.

        No request is chosen for both.
        """
        order = [places[index] for index in draw.permutation(len(places)).tolist()]
        wanted = planted_number(self.planting.conflicts, len(places))
        contradictions: dict[int, EditRequest] = {}
        for place in order if wanted else ():
            request = self.pool[place]
            others = other_objects(request, self._objects)
            if others:
                target = others[int(draw.integers(len(others)))]
                contradictions[place] = conflicting(
                    request, target, self._first + place
                )
            if len(contradictions) == wanted:
                break
        copied = [place for place in order if place not in contradictions]
        copies = tuple(
            self.pool[place].model_copy(update={"case_id": self._first + place})
            for place in copied[: planted_number(self.planting.overlap, len(places))]
        )
        return PartyRequests(
            copies=copies, contradictions=tuple(contradictions.values())
        )

    @cached_property
    def _first(self) -> int:
        return max(request.case_id for request in self.pool) + 1

    @cached_property
    def _objects(self) -> Objects:
        return objects_by_relation(self.pool)


def objects_by_relation(pool: Sequence[EditRequest]) -> Objects:
    """List the new and true objects of requests, each once for its relation."""
    found: dict[str, dict[str, str]] = {}
    for request in pool:
        known = found.setdefault(relation_of(request), {})
        for text in (request.target_new, request.target_true):
            if text is not None:
                known.setdefault(normalise(text), text)
    return found


def other_objects(request: EditRequest, objects: Objects) -> list[str]:
    """Objects of its relation that are neither a request's new nor its true one."""
    own = {normalise(request.target_new), normalise(request.target_true or "")}
    known = objects[relation_of(request)]
    return [text for normal, text in known.items() if normal not in own]
