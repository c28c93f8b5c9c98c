"""Partition one source of requests across simulated parties."""

import random
from collections.abc import Sequence

from editing.requests.edit_request import EditRequest, RequestError, sample_requests
from editing.sources.embedded import EMBEDDED
from strategies.partitioning.planting import Planting, Shares
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.partitioning.splits import Split, partition, relation_of


def order_requests(
    pool: Sequence[EditRequest], config: RequestsConfig, split: str, *, draw: bool
) -> list[EditRequest]:
    """Fix the order in which requests are partitioned.

    Args:
        pool: The source.
        config: Limit and seed.
        split: `shuffled` changes the source's order, all others keep it.
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


def share_requests(
    ordered: Sequence[EditRequest], parties: PartiesConfig, seed: int
) -> Shares:
    """Partition requests across all parties, for as many rounds as they last.

    Args:
        ordered: All requests, as `order_requests` gives them.
        parties: How many each party takes, how they are split and what is planted.
        seed: Draws the split and what is planted, `requests.seed`.
    """
    relations = [relation_of(request) for request in ordered]
    split = Split(parties.split, parties.alpha, seed)
    rounds = partition(relations, parties.listed_sizes, split)
    planting = Planting(parties.overlap, parties.planted_conflicts, seed)
    return Shares(ordered, parties.count, rounds, planting)


def check_supply(
    available: int, parties: PartiesConfig, rounds: int, source: str
) -> None:
    """Validate that there are as many requests as the parties are to take.

    Args:
        available: How many requests there are.
        parties: How many each party takes.
        rounds: In how many rounds.
        source: Where they come from, `requests.source`.

    Raises:
        RequestError: If they do not suffice and empty parties are not allowed.
    """
    wanted = _taken(parties, rounds)
    if available < wanted and not parties.allow_empty:
        once = ", each subject once" if source == EMBEDDED else ""
        raise RequestError(
            f"{parties.count} parties take {wanted} requests in {rounds} round(s), and "
            f"`{source}` gives {available}{once}. Lower "
            "`parties.count`, `parties.requests-per-round` or `run.rounds`, or set "
            "`parties.allow-empty = true`."
        )


def _taken(parties: PartiesConfig, rounds: int) -> int:
    """Return how many requests there must be; the last listed round is repeated."""
    sizes = [sum(each) for each in parties.listed_sizes[:rounds]]
    return sum(sizes) + (rounds - len(sizes)) * sum(sizes[-1:])
