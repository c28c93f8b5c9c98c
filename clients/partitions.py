"""Which requests are whose: one source shared out among simulated parties."""

import random
from collections.abc import Sequence

from editing.requests import EditRequest, RequestError, sample_requests
from strategies.scenario import PartiesConfig, RequestsConfig


def order_requests(
    pool: Sequence[EditRequest], config: RequestsConfig, split: str, *, draw: bool
) -> list[EditRequest]:
    """Fix the order in which requests are shared out.

    Args:
        pool: The source.
        config: Limit and seed.
        split: `contiguous` keeps the source's order, `shuffled` does not.
        draw: Whether the source is a pool to draw distinct subjects from.
    """
    if draw:
        subjects = len({request.subject for request in pool})
        return sample_requests(
            pool, min(config.limit or subjects, subjects), config.seed
        )
    ordered = list(pool[: config.limit])
    if split == "shuffled":
        random.Random(config.seed).shuffle(ordered)
    return ordered


def party_requests(
    ordered: Sequence[EditRequest], parties: PartiesConfig, party: int, number: int
) -> list[EditRequest]:
    """One party's new requests of a round; rounds and parties take them in turn.

    Args:
        ordered: All requests, in the order in which they are shared out.
        parties: How many each party takes.
        party: Counted from 0.
        number: The round, counted from 1.
    """
    check_supply(len(ordered), parties, number)
    sizes = parties.sizes_of(number)
    start = _taken(parties, number - 1) + sum(sizes[:party])
    return list(ordered[start : start + sizes[party]])


def round_requests(
    ordered: Sequence[EditRequest], parties: PartiesConfig, number: int
) -> dict[int, list[EditRequest]]:
    """All parties' new requests of a round, by party."""
    return {
        party: party_requests(ordered, parties, party, number)
        for party in range(parties.count)
    }


def check_supply(available: int, parties: PartiesConfig, rounds: int) -> None:
    """Hold the number of requests to what the parties are to take.

    Raises:
        RequestError: If they do not suffice and empty parties are not allowed.
    """
    wanted = _taken(parties, rounds)
    if available < wanted and not parties.allow_empty:
        raise RequestError(
            f"{parties.count} parties take {wanted} requests in {rounds} round(s), and "
            f"the source gives {available} (of `embedded`, each subject once). Lower "
            "`parties.count`, `parties.requests-per-round` or `run.rounds`, or set "
            "`parties.allow-empty = true`."
        )


def _taken(parties: PartiesConfig, rounds: int) -> int:
    return sum(sum(parties.sizes_of(number)) for number in range(1, rounds + 1))
