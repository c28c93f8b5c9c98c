"""The private requests of the party that this client represents."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from clients.settings import ClientConfig
from editing.base.errors import (
    EmptySourceError,
    InputError,
    MissingSourceError,
    RequestError,
)
from editing.requests.edit_request import EditRequest, read_requests
from editing.sources.embedded import EMBEDDED, resolve_model, resolve_source
from strategies.partitioning.partitions import (
    check_supply,
    order_requests,
    share_requests,
)
from strategies.partitioning.planting import PartyRequests, Shares
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import ModelConfig


class MalformedRequestsError(RequestError):
    """A file of requests with a record that is none."""


class ChangedRequestsError(RequestError):
    """A file of requests that was changed while a round was under way."""


def requests_of_round(
    config: ClientConfig, number: int, *, pooled: bool
) -> dict[int, list[EditRequest]]:
    """Return new requests of a round by party: this one's, or under `global` all.

    A simulated node beyond the number of parties has none.

    Raises:
        InputError: If a pool is asked for where each party has a file of its own, or
            the node has neither a file of requests nor a number.
    """
    if config.own_requests is not None:
        if pooled:
            raise InputError("`global` needs all requests in one place: simulate it.")
        return {config.party: _slice_own(config, config.own_requests, number)}
    if config.party < 0:
        raise InputError(
            "This node has neither requests of its own nor a place among the parties. "
            "Set `requests-path` in its node config."
        )
    shares = find_shares(config.model, config.requests, config.parties)
    check_supply(len(shares.pool), config.parties, number, config.requests.source)
    shared = shares.in_round(number)
    own = enumerate(shared) if pooled else [(config.party, _own(shared, config.party))]
    return {party: list(each.requests) for party, each in own}


def _own(shared: Sequence[PartyRequests], party: int) -> PartyRequests:
    return shared[party] if party < len(shared) else PartyRequests()


def find_shares(
    model: ModelConfig, requests: RequestsConfig, parties: PartiesConfig
) -> Shares:
    """Share the simulated parties' common source out among them."""
    return _find_shares(model, requests, parties, parties.model_dump_json())


@lru_cache(maxsize=2)
def _find_shares(
    model: ModelConfig,
    requests: RequestsConfig,
    parties: PartiesConfig,
    _: str,  # tells an overlap of one request, 1, from one of all, 1.0, which are equal
) -> Shares:
    ordered = shared_requests(model, requests, parties)
    return share_requests(ordered, parties, requests.seed)


def shared_requests(
    model: ModelConfig, requests: RequestsConfig, parties: PartiesConfig
) -> list[EditRequest]:
    """The simulated parties' common source, in the order in which it is shared out."""
    source = resolve_source(
        requests.source, resolve_model(model.path), "requests.json", "requests.source"
    )
    draw = requests.source == EMBEDDED
    limit = None if draw else requests.limit
    pool = _read(source, limit, requests)
    return order_requests(pool, requests, parties.split, draw=draw)


def _slice_own(config: ClientConfig, file: Path, number: int) -> list[EditRequest]:
    """Take the requests of a party's own file in turn, until there are no more.

    Raises:
        InputError: If records of a common source are to be left out.
    """
    if config.requests.skip:
        raise InputError(
            "`requests.skip` numbers the records of one common source, and this node "
            "has a file of its own: take the records out of it, and unset `skip`."
        )
    sizes = [_own_size(config, each) for each in range(1, number + 1)]
    mine = _read(file, config.requests.limit, config.requests)
    return mine[sum(sizes[:-1]) : sum(sizes)]


def _own_size(config: ClientConfig, number: int) -> int:
    """How many requests this party takes in a round, with those planted at it.

    Raises:
        InputError: If every party has its number of requests and this one no place.
    """
    sizes = config.parties.most_of(number)
    if isinstance(config.parties.requests_per_round, int):
        return sizes[0]
    if not 0 <= config.party < len(sizes):
        raise InputError(
            "`requests-per-round` lists a number for each party, and this node has "
            "no place among them. Give one number for all, or set `partition-id`."
        )
    return sizes[config.party]


def _read(path: Path, limit: int | None, config: RequestsConfig) -> list[EditRequest]:
    """Read requests; what was read stays in memory for as long as the file stays.

    Raises:
        MalformedRequestsError: If a record is none; the text names file and line.
    """
    try:
        return _read_once(path, _state_of(path), limit, config)
    except (MissingSourceError, EmptySourceError):
        raise
    except RequestError as error:
        raise MalformedRequestsError(str(error)) from None


@lru_cache(maxsize=2)
def _read_once(
    path: Path,
    state: tuple[int, ...],  # noqa: ARG001 - distinguishes files at the same path
    limit: int | None,
    config: RequestsConfig,
) -> list[EditRequest]:
    return read_requests(
        path, limit, config.zsre_target, config.skip, config.target_space
    )


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:  # reading it reports the reason
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
