"""The settings of a client: the run's, and over them those of its node."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

from flwr.app import Context
from pydantic import PositiveInt, ValidationError

from clients.target_cache import cache_folder
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.base.validation import SETTINGS, find_faults
from editing.evaluation.config import EvaluationConfig
from editing.hyperparameters.config import BATCH_SIZE
from strategies.scenario import (
    ModelConfig,
    PartiesConfig,
    PriorConfig,
    RequestsConfig,
    nest,
)
from strategies.wire.handshakes import PartyName

NODE_KEYS = {
    "party": "partition-id",
    "own-requests": "requests-path",
    "own-text": "text-path",
    "key": "key-path",
}
"""Keys of the node config that are not called as the settings are."""

Kept = Literal["results", "all", "nothing"]
"""What stays of a run's private folder."""


class NodeSettingsError(InputError):
    """A setting of the run or of this node that cannot be used."""


class ClientConfig(Settings):
    """The run's settings that a client needs, with those of its node.

    Attributes:
        prior: What a party that solves alone takes for ``C₀``.
        evaluation: What requests are evaluated by.
        batch_size: Requests whose targets are computed together.
        seed: Draws what a simulation draws.
        party: The party's number; −1 if the node was given none.
        name: What logs and reports call the party.
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
    batch_size: PositiveInt = BATCH_SIZE
    seed: int = 0
    party: int = -1
    name: PartyName = ""
    own_requests: Path | None = None
    own_text: Path | None = None
    key: Path | None = None
    target_cache: Path | None = None
    keep_private: Kept = "results"


def read_client_config(context: Context) -> ClientConfig:
    """Read Flower's run settings, and over them the node's own.

    A node may set ``name``, ``model-path``, ``device``, ``requests-path``,
    ``text-path``, ``key-path``, ``covariance-path``, ``target-cache`` and
    ``keep-private``.

    Raises:
        NodeSettingsError: If a setting is refused.
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
        "batch_size": _table(nested.get("editing")).get("batch_size", BATCH_SIZE),
        "seed": run.get("seed", 0),
        "party": node.get("partition-id", -1),
        "name": str(node.get("name", "")),
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
        raise NodeSettingsError(named.sentence) from None


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
