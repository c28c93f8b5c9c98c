"""The settings of a client: the run's, and over them those of its node."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from flwr.app import Context
from pydantic import Field, PositiveInt, ValidationError

from clients.target_cache import cache_folder
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.base.validation import SETTINGS, find_faults
from editing.evaluation.config import EvaluationConfig
from editing.hyperparameters.config import BATCH_SIZE
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.scenario import ModelConfig, PriorConfig, nest
from strategies.wire.names import PartyName

Kept = Literal["results", "all", "nothing"]
"""What stays of a run's private folder."""


Config = TypeVar("Config", bound=Settings)


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
        hypernetwork: Its file on this node; None for where the run's settings say.
        target_cache: A folder of targets that runs share; None keeps them with the run.
        keep_private: What stays of the run's private folder when it ends: the party's
            own ``results``, or ``all``, or ``nothing``.
        keep_statistics: Whether what it adds to secure sums stays among these results.
        require_secure_sum: Whether it answers under masks alone.
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
    hypernetwork: str | None = None
    target_cache: Path | None = None
    keep_private: Kept = "results"
    keep_statistics: bool = False
    require_secure_sum: bool = False


class NodeConfig(Settings):
    """The configuration of one node, which goes over the run's settings.

    Attributes:
        name: What logs and reports call the party, in at most 64 printable characters.
        partition_id: The party's number, counted from 0; sums follow this order.
        num_partitions: Set by Flower's simulation, and not used.
        model_path: The model's files on this node, instead of `model.path`.
        device: The device of this node, instead of `model.device`.
        requests_path: The party's own file of requests.
        text_path: The party's own texts, for a covariance of all parties' texts.
        key_path: The file of the key that the parties share and the server lacks.
        covariance_path: The covariance on this node, instead of `prior.covariance`.
        hypernetwork_path: The hypernetwork on this node, instead of
            `editor.hypernetwork`.
        target_cache: A folder of targets that runs share; unset, the run keeps them.
        private_folder: The folder of the runs' private folders.
        keep_private: What stays of a run's private folder when it ends: the party's own
            ``results``, or ``all``, or ``nothing``.
        keep_statistics: Whether what the party adds to secure sums stays among its
            results: `remove` can take it back if the party hands it over.
        require_secure_sum: Whether the node refuses runs that do not sum under masks
            (`privacy.secure-sum`), which a server could start.
    """

    name: PartyName = ""
    partition_id: Annotated[int, Field(ge=-1)] = -1
    num_partitions: int | None = None
    model_path: str | None = None
    device: str | None = None
    requests_path: Path | None = None
    text_path: Path | None = None
    key_path: Path | None = None
    covariance_path: str | None = None
    hypernetwork_path: str | None = None
    target_cache: Path | None = None
    private_folder: Path | None = None
    keep_private: Kept = "results"
    keep_statistics: bool = False
    require_secure_sum: bool = False


def read_client_config(context: Context) -> ClientConfig:
    """Read Flower's run settings, and over them the node's own.

    A setting that is refused is a `NodeSettingsError`.
    """
    nested, node = nest({**context.run_config}), read_node_config(context)
    model, prior = (_table(nested.get(name)) for name in ("model", "prior"))
    # The parties of a simulation keep theirs if the server does.
    simulated = node.requests_path is None
    kept = simulated and _table(nested.get("output")).get("statistics", False)
    model |= _given(path=node.model_path, device=node.device)
    prior |= _given(covariance=node.covariance_path)
    values = {
        "model": model,
        "prior": prior,
        "evaluation": nested.get("evaluation", {}),
        "requests": nested.get("requests", {}),
        "parties": nested.get("parties", {}),
        "batch_size": _table(nested.get("editing")).get("batch_size", BATCH_SIZE),
        "seed": _table(nested.get("run")).get("seed", 0),
        "party": node.partition_id,
        "name": node.name,
        "own_requests": node.requests_path,
        "own_text": node.text_path,
        "key": node.key_path,
        "hypernetwork": node.hypernetwork_path,
        "target_cache": node.target_cache or cache_folder(),
        "keep_private": node.keep_private,
        "keep_statistics": node.keep_statistics or kept,
        "require_secure_sum": node.require_secure_sum,
    }
    return _validate(ClientConfig, values)


def read_node_config(context: Context) -> NodeConfig:
    """Read the node's own settings; one that is refused is a `NodeSettingsError`."""
    given = {key.replace("-", "_"): value for key, value in context.node_config.items()}
    return _validate(NodeConfig, given)


def name_of_node(context: Context) -> str:
    """Return what a node's party is called; empty if its settings are invalid."""
    try:
        node = read_node_config(context)
    except NodeSettingsError:
        return ""
    numbered = f"party {node.partition_id}" if node.partition_id >= 0 else ""
    return node.name or numbered


def _validate(model: type[Config], values: Mapping[str, object]) -> Config:
    """Validate settings that came as JSON values.

    Raises:
        NodeSettingsError: Naming the first setting that is refused.
    """
    try:
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        fault = find_faults(error, model, SETTINGS)[0]
        raise NodeSettingsError(fault.sentence) from None


def _given(**values: str | None) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _table(value: object) -> dict[str, object]:
    return {**value} if isinstance(value, dict) else {}
