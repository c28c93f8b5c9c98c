"""Which requests a message is about: whose they are, and when they were asked for."""

from dataclasses import dataclass

from clients.requests import ClientConfig, requests_of_round
from editing.requests import EditRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and where it comes from.

    Attributes:
        party: Whose it is; a pool holds those of others.
        round: The round that it is new in.
        place: Its place among the party's requests of that round.
        request: What the model shall say.
    """

    party: int
    round: int
    place: int
    request: EditRequest


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
