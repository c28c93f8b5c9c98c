"""Which requests a message is about: whose they are, and when they were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path

from clients.own_requests import requests_of_round
from clients.settings import ClientConfig
from editing.requests.edit_request import EditRequest
from editing.requests.paraphrases import phrase, read_templates
from strategies.partitioning.settings import RequestsConfig


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and where it comes from.

    Attributes:
        party: Whose it is; a pool holds those of others.
        round: The round that it is new in.
        place: Its place among the party's requests of that round.
        request: The edit.
    """

    party: int
    round: int
    place: int
    request: EditRequest


@dataclass(frozen=True, slots=True)
class Group:
    """A party's requests of a round, which are computed together wherever they are.

    Attributes:
        asked: The requests.
        phrased: For each, itself and what further phrasings are edited with it.
    """

    asked: tuple[Asked, ...]
    phrased: tuple[tuple[EditRequest, ...], ...]

    @property
    def party(self) -> int:
        """Whose they are."""
        return self.asked[0].party

    @property
    def requests(self) -> list[EditRequest]:
        """All phrasings of all requests."""
        return [each for phrasings in self.phrased for each in phrasings]

    @property
    def rows(self) -> list[range]:
        """For each request, where its phrasings are; it is the first of them."""
        ends = [0]
        for phrasings in self.phrased:
            ends.append(ends[-1] + len(phrasings))
        return [range(*pair) for pair in pairwise(ends)]


def asked_in(config: ClientConfig, number: int, *, pooled: bool) -> list[Asked]:
    """All requests that this node holds of a round, party after party."""
    by_party = requests_of_round(config, number, pooled=pooled)
    return [
        Asked(party, number, place, request)
        for party, requests in by_party.items()
        for place, request in enumerate(requests)
    ]


def asked_until(config: ClientConfig, number: int, *, pooled: bool) -> list[Asked]:
    """All requests of the rounds so far; of the first one before any edit."""
    return [
        each
        for earlier in range(1, max(number, 1) + 1)
        for each in asked_in(config, earlier, pooled=pooled)
    ]


def group_by_party(asked: Sequence[Asked], config: RequestsConfig) -> list[Group]:
    """Put a party's requests together, each with its further phrasings.

    A pool computes the same groups as the parties do by themselves, and so gets the
    same bits.
    """
    templates = _templates(config)
    groups = [tuple(own) for _, own in groupby(asked, key=lambda each: each.party)]
    return [
        Group(
            own,
            tuple(
                tuple(phrase(each.request, config.phrasings, templates)) for each in own
            ),
        )
        for own in groups
    ]


def _templates(config: RequestsConfig) -> Mapping[str, Sequence[str]] | None:
    if config.templates is None or config.phrasings == 0:
        return None
    return _read(Path(config.templates))


@lru_cache(maxsize=2)
def _read(path: Path) -> dict[str, tuple[str, ...]]:
    return read_templates(path)
