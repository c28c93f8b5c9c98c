"""Targets of the MLP and the attention, and their edit, against PMET's program."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.hyperparameters.config import Plan
from editing.memit.pipeline import edit_alone, read_pairs
from editing.memit.residuals import read_states
from editing.memit.targets import Found, search_targets
from tests.golden import (
    GOLDEN_END_TO_END,
    GOLDEN_PAIRS,
    GOLDEN_TARGETS,
    Golden,
    load_golden,
    read_methods,
)
from tests.laws import GOLDEN_DELTA, assert_same, make_targets
from tests.trees import ROOT

TENSORS = load_file(
    ROOT / "tests" / "data" / "golden_editors" / "targets" / "streams.safetensors"
)
LAYERS = (1, 2, 3)


@pytest.fixture(scope="module")
def case(golden: Path) -> Golden:
    """Load the model and the requests once."""
    return load_golden(golden)


@pytest.fixture(scope="module")
def plan(case: Golden) -> Plan:
    """Plan with the program's hyperparameters."""
    own = {"target_of": "streams", **read_methods()["pmet"]}
    parameters = case.parameters.model_copy(update=own)
    return Plan(parameters=parameters, schedule="layerwise", templates=case.templates)


@pytest.fixture(scope="module")
def found(case: Golden, plan: Plan) -> Found:
    """Search the targets of all requests once."""
    return search_targets(case.model, case.requests, plan.templates, plan.parameters)


def rows(name: str) -> Tensor:
    """Return targets, keys or residuals, rows being edits."""
    return TENSORS[f"pmet.{name}"].mT


def delta_of(layer: int) -> Tensor:
    """Return the published update."""
    return rows(f"residuals.{layer}").mT @ rows(f"adj_keys.{layer}")


@pytest.mark.parametrize("stream", [0, 1], ids=["mlp", "attention"])
def test_targets_are_the_published_ones(found: Found, stream: int) -> None:
    """Of each request, in both streams."""
    theirs = rows("targets" if stream == 0 else "targets_attention")
    ours = found.start[:, stream] + found.shift[:, stream]
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other, GOLDEN_TARGETS)
    written = found.targets.states
    assert (stream == 0) == bool((written - ours.double()).norm() < GOLDEN_TARGETS)


@pytest.mark.parametrize("layer", LAYERS)
def test_pairs_are_the_published_ones(case: Golden, plan: Plan, layer: int) -> None:
    """On the model that the published updates of earlier layers have edited."""
    earlier = {case.model.weight_name(k): delta_of(k) for k in LAYERS if k < layer}
    with applied(earlier, case.model.model):
        hidden = read_states(case.model, case.requests, plan.parameters)
        targets = make_targets(hidden, rows("targets"))
        pairs = read_pairs(case.model, case.requests, targets, plan, [layer], hidden)
    assert_same(pairs[layer].keys, rows(f"keys.{layer}"), GOLDEN_PAIRS)
    assert_same(pairs[layer].residuals, rows(f"residuals.{layer}"), GOLDEN_PAIRS)


@pytest.mark.parametrize("layer", LAYERS)
def test_updates_of_published_pairs_are_the_published_ones(
    case: Golden, layer: int
) -> None:
    """MEMIT's solve."""
    statistics = LayerStatistics.of_pairs(
        rows(f"keys.{layer}").double(), rows(f"residuals.{layer}").double()
    )
    ours = solve_delta(statistics, Prior(case.priors[layer]))
    assert_same(ours, delta_of(layer), GOLDEN_DELTA)


def test_updates_end_to_end_are_the_published_ones(
    case: Golden, plan: Plan, found: Found
) -> None:
    """From requests to deltas, with our own targets."""
    ours = edit_alone(case.model, case.requests, plan, case.priors, found.targets)
    for layer in LAYERS:
        update = ours[case.model.weight_name(layer)]
        assert_same(update, delta_of(layer), GOLDEN_END_TO_END)
