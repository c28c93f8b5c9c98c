"""The private requests of the party that this client speaks for."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from flwr.app import Context
from pydantic import ValidationError

from clients.target_cache import cache_folder
from editing.base.errors import (
    EmptySourceError,
    InputError,
    MissingSourceError,
    RequestError,
)
from editing.base.settings import Settings
from editing.base.validation import SETTINGS, find_faults
from editing.evaluation.config import EvaluationConfig
from editing.requests.edit_request import EditRequest, read_requests
from editing.requests.forms.published import ZsreTarget
from editing.sources.embedded import EMBEDDED, resolve_model, resolve_source
from strategies.partitioning.partitions import (
    check_supply,
    order_requests,
    share_requests,
)
from strategies.partitioning.planting import Shares
from strategies.scenario import (
    ModelConfig,
    PartiesConfig,
    PriorConfig,
    RequestsConfig,
    nest,
)

NODE_KEYS = {
    "party": "partition-id",
    "own-requests": "requests-path",
    "own-text": "text-path",
    "key": "key-path",
}
"""Keys of the node config that are not called as the settings are."""

Kept = Literal["results", "all", "nothing"]
"""What may stay of a run's private folder."""


class MalformedRequestsError(RequestError):
    """A file of requests with a record that is none."""


class ChangedRequestsError(RequestError):
    """A file of requests that was changed while a round was under way."""


class ClientConfig(Settings):
    """What a client reads of the run's settings and of its node's.

    Attributes:
        prior: What a party that solves alone takes for ``C₀``.
        evaluation: What requests are evaluated by.
        batch_size: Requests whose targets are computed together.
        seed: Draws what a simulation draws.
        party: The node's place among the parties; −1 if it was given none.
        own_requests: A file that this party alone holds; None in a simulation, where
            all parties share one source.
        own_text: A file of texts, one a line, for a covariance of all parties' texts;
            None in a simulation, where `prior.text` is shared out.
        key: The file of the key that the parties share; not needed in a simulation.
        target_cache: A folder of targets that runs share; None keeps them with the run.
        keep_private: What stays of the run's private folder when it ends: the party's
            own ``results``, or ``all``, or ``nothing``.
    """

    model: ModelConfig
    requests: RequestsConfig
    parties: PartiesConfig
    prior: PriorConfig = PriorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    batch_size: int = 128
    seed: int = 0
    party: int = -1
    own_requests: Path | None = None
    own_text: Path | None = None
    key: Path | None = None
    target_cache: Path | None = None
    keep_private: Kept = "results"


def read_client_config(context: Context) -> ClientConfig:
    """Read Flower's run settings, and over them the node's own.

    A node may set ``model-path``, ``device``, ``requests-path``, ``text-path``,
    ``key-path``, ``covariance-path``, ``target-cache`` and ``keep-private``.

    Raises:
        InputError: If a setting is refused.
    """
    nested, node = nest({**context.run_config}), context.node_config
    model = {**_table(nested.get("model"))}
    for key, field in (("model-path", "path"), ("device", "device")):
        if key in node:
            model[field] = str(node[key])
    prior = {**_table(nested.get("prior"))}
    if "covariance-path" in node:
        prior["covariance"] = str(node["covariance-path"])
    run = _table(nested.get("run"))
    shared = cache_folder()
    values = {
        "model": model,
        "prior": prior,
        "evaluation": nested.get("evaluation", {}),
        "requests": nested.get("requests", {}),
        "parties": nested.get("parties", {}),
        "batch_size": _table(nested.get("editing")).get("batch_size", 128),
        "seed": run.get("seed", 0),
        "party": node.get("partition-id", -1),
        "own_requests": node.get("requests-path"),
        "own_text": node.get("text-path"),
        "key": node.get("key-path"),
        "target_cache": node.get("target-cache", str(shared) if shared else None),
        "keep_private": node.get("keep-private", "results"),
    }
    try:
        return ClientConfig.model_validate_json(json.dumps(values))
    except ValidationError as error:
        fault = find_faults(error, ClientConfig, SETTINGS)[0]
        named = replace(fault, key=NODE_KEYS.get(fault.key, fault.key))
        raise InputError(named.sentence) from None


def requests_of_round(
    config: ClientConfig, number: int, *, pooled: bool
) -> dict[int, list[EditRequest]]:
    """New requests of a round by party: this one's, or everybody's if it is the pool.

    A simulated node beyond the number of parties has none.

    Raises:
        InputError: If a pool is asked for where each party has a file of its own, or
            the node was told neither its file nor its place.
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
    hands = [list(each.requests) for each in shares.in_round(number)]
    if pooled:
        return dict(enumerate(hands))
    return {config.party: hands[config.party] if config.party < len(hands) else []}


@lru_cache(maxsize=2)
def find_shares(
    model: ModelConfig, requests: RequestsConfig, parties: PartiesConfig
) -> Shares:
    """Share the simulated parties' common source out among them."""
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
    pool = _read(source, limit, requests.zsre_target, requests.skip)
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
    mine = _read(file, config.requests.limit, config.requests.zsre_target, ())
    return mine[sum(sizes[:-1]) : sum(sizes)]


def _own_size(config: ClientConfig, number: int) -> int:
    """How many requests this party takes in a round, with those planted at it.

    Raises:
        InputError: If every party has its number of requests and this one no place.
    """
    pairs = zip(
        config.parties.sizes_of(number),
        config.parties.planted_sizes_of(number),
        strict=True,
    )
    sizes = [sum(pair) for pair in pairs]
    if isinstance(config.parties.requests_per_round, int):
        return sizes[0]
    if not 0 <= config.party < len(sizes):
        raise InputError(
            "`requests-per-round` lists a number for each party, and this node has "
            "no place among them. Give one number for all, or set `partition-id`."
        )
    return sizes[config.party]


def _read(
    path: Path, limit: int | None, zsre_target: ZsreTarget, skip: tuple[int, ...]
) -> list[EditRequest]:
    """Read requests; what was read stays in memory for as long as the file stays.

    Raises:
        MalformedRequestsError: If a record is none; the text names file and line.
    """
    try:
        return _read_once(path, _state_of(path), limit, zsre_target, skip)
    except (MissingSourceError, EmptySourceError):
        raise
    except RequestError as error:
        raise MalformedRequestsError(str(error)) from None


@lru_cache(maxsize=2)
def _read_once(
    path: Path,
    state: tuple[int, ...],  # noqa: ARG001 - tells one file from the next at its path
    limit: int | None,
    zsre_target: ZsreTarget,
    skip: tuple[int, ...],
) -> list[EditRequest]:
    return read_requests(path, limit, zsre_target, skip)


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:  # whoever reads it says why
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
