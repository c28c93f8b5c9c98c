"""What a run needs before its first round: model, plan, prior, held-out facts."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from editing.architectures import EditableModel, load_editable_model
from editing.config import Plan
from editing.contexts import choose_templates
from editing.covariance import (
    Covariance,
    compute_covariance,
    load_covariance,
    save_covariance,
)
from editing.embedded import file_beside, resolve_model, resolve_source
from editing.errors import InputError
from server.config import RunConfig
from server.evaluation import HeldOutFact, read_held_out
from strategies.memory import Memory
from strategies.messages import Job, ModelIdentity
from strategies.rounds import EditedLayer
from strategies.scenario import COMPUTE, PriorConfig


@dataclass(frozen=True, slots=True)
class Preparation:
    """What all merges of a run share.

    Attributes:
        model: The server's copy of the model.
        plan: Hyperparameters, schedule and context templates.
        covariance: ``C₀`` of the edited layers.
        prior_weight: ``λ``.
        held_out: Facts that nobody edits; empty if the model brings none.
    """

    model: EditableModel
    plan: Plan
    covariance: Covariance
    prior_weight: float
    held_out: tuple[HeldOutFact, ...]

    def layers(self, memory_weight: float) -> dict[int, EditedLayer]:
        """The edited layers, with nothing remembered."""
        found = {}
        for layer in self.plan.parameters.layers:
            d_out, d_in = self.model.widths(layer)
            moment = self.covariance.moments[layer]
            memory = Memory.of_covariance(moment, self.prior_weight, memory_weight)
            name = self.model.weight_name(layer)
            found[layer] = EditedLayer(name, d_out, d_in, memory)
        return found

    def job(self, config: RunConfig, label: str, *, pooled: bool) -> Job:
        """What every client is told."""
        identity = ModelIdentity(
            weights=self.model.fingerprint, tokenizer=self.model.tokenizer_fingerprint
        )
        return Job(
            identity=identity,
            plan=self.plan,
            encoding=config.run.encoding,
            label=label,
            pooled=pooled,
        )


def prepare(
    config: RunConfig, on_tokens: Callable[[int], None] | None = None
) -> Preparation:
    """Load and check everything that a run needs, before a client is asked.

    An `InputError` says which setting does not fit the model.
    """
    path = resolve_model(config.model.path)
    model = load_editable_model(path, config.model.dtype, config.model.device)
    folder = Path(path) if Path(path).is_dir() else None
    parameters = config.editing.resolve(folder)
    model.check_layers(parameters.layers)
    plan = Plan(
        parameters=parameters,
        schedule=config.editing.schedule,
        templates=choose_templates(model, config.editing, folder),
    )
    covariance = find_covariance(
        model, parameters.layers, config.prior, path, on_tokens
    )
    covariance.check(model, parameters.layers)
    facts = file_beside(path, "held_out.json")
    return Preparation(
        model,
        plan,
        covariance,
        config.prior.weight or parameters.mom2_update_weight,
        read_held_out(facts) if facts else (),
    )


def find_covariance(
    model: EditableModel,
    layers: tuple[int, ...],
    prior: PriorConfig,
    model_path: str,
    on_tokens: Callable[[int], None] | None = None,
) -> Covariance:
    """Read the covariance that is named, or compute it once and keep it.

    A computed one is kept in the user's cache folder under a digest of model, text and
    layers, so that it is found only where it is right.
    """
    if prior.covariance != COMPUTE:
        return load_covariance(_named_files(prior.covariance), layers)
    text = resolve_source(prior.text, model_path, "text.txt", "prior.text")
    try:
        documents = text.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{text}: cannot be read as text ({error}).") from None
    kept = _cache_folder() / f"{_digest(model, documents, layers)}.safetensors"
    if kept.is_file():
        return load_covariance([kept], layers)
    found = compute_covariance(
        model, documents, layers, dataset=text.name, on_batch=on_tokens
    )
    save_covariance(found, kept)
    return found


def _named_files(setting: str) -> list[Path]:
    """One file, or a JSON list of them.

    Raises:
        InputError: If the list is broken.
    """
    if not setting.startswith("["):
        return [Path(setting)]
    try:
        return [Path(str(name)) for name in json.loads(setting)]
    except ValueError as error:
        raise InputError(
            f"`prior.covariance`: wanted a file or a JSON list of files ({error})."
        ) from None


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "collabedit-flower" / "covariance"


def _digest(model: EditableModel, documents: list[str], layers: tuple[int, ...]) -> str:
    digest = hashlib.sha256(f"{model.fingerprint} {layers}".encode())
    for document in documents:
        digest.update(document.encode() + b"\n")
    return digest.hexdigest()
