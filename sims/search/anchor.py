"""The reference norm of norm-anchor scaling: one number for a model and a layer."""

import random
from dataclasses import dataclass
from pathlib import Path

from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig
from editing.memit.context_templates import choose_templates
from editing.memit.norm_anchor import reference_norm
from editing.memit.targets import measure_value_norms
from editing.requests.edit_request import read_requests
from editing.sources.embedded import resolve_model, resolve_source
from sims.console import hush_libraries


@dataclass(frozen=True, slots=True)
class AnchorOrder:
    """What a reference norm is measured with.

    Attributes:
        model: A model's folder, a hub name or ``embedded``.
        requests: Any source of requests; ``embedded`` takes the model's own.
        hyperparameters: A file or a preset; None takes the model's own.
        count: Facts that are drawn.
        seed: Draws the facts and the context templates.
        dtype: The model's precision.
        device: Where it computes.
    """

    model: str
    requests: str
    hyperparameters: str | None = None
    count: int = 1000
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference norm.

    Attributes:
        norm: ``c``.
        layer: The block whose targets it is for.
        facts: How many it was measured on.
    """

    norm: float
    layer: int
    facts: int


def measure_reference(order: AnchorOrder) -> Reference:
    """Find targets of some facts on the unedited model, and average their values.

    The targets are those of a run: each fact by itself, after all context templates.
    A mistake in the order is an `InputError`, and so is a source without facts.
    """
    path = resolve_model(order.model)
    source = resolve_source(order.requests, path, "requests.json", "--requests")
    facts = sorted(read_requests(source), key=lambda request: request.case_id)
    random.Random(order.seed).shuffle(facts)
    config = EditingConfig(
        hyperparameters=order.hyperparameters, context_seed=order.seed
    )
    choice = choose_hyperparameters(config, path)
    hush_libraries()
    model = choice.load(path, order.dtype, order.device)
    parameters, drawn = choice.fit(model), facts[: order.count]
    templates = choose_templates(model, config, Path(path))
    norms = measure_value_norms(model, drawn, templates, parameters)
    return Reference(reference_norm(norms), parameters.layers[-1], len(drawn))
