"""The engine against what MEMIT's and CollabEdit's published programs computed."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from editing.algebra.deltas import applied
from editing.evaluation.cases import evaluate_requests
from editing.hyperparameters.config import Plan, Schedule
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone
from editing.memit.residuals import compute_residuals, read_hidden
from editing.memit.targets import Targets, compute_targets
from tests.golden import (
    FOLDER,
    GOLDEN_END_TO_END,
    GOLDEN_PAIRS,
    GOLDEN_TARGETS,
    SCHEDULES,
    Golden,
    clients_of,
    delta_tolerance,
    load_golden,
    read_tensors,
)
from tests.laws import assert_same, make_targets
from tests.trees import ROOT

LAYERS = (1, 2, 3)
CLIENTS = clients_of(FOLDER)
FROZEN = ("frozen.global", *CLIENTS)
RUNS = tuple(SCHEDULES)
COPY = 1e-7
"""Relative difference of a tensor that is stored as factors to the original."""


@pytest.fixture(scope="module")
def case(golden: Path) -> Golden:
    """Load the model and the numbers once."""
    return load_golden(golden)


@pytest.fixture(scope="module")
def targets(case: Golden) -> Targets:
    """Compute the targets of all requests once."""
    return compute_targets(case.model, case.requests, case.templates, case.parameters)


def plan_of(case: Golden, run: str) -> Plan:
    """Choose the schedule that a run was made with."""
    return Plan(
        parameters=case.parameters,
        schedule=cast("Schedule", SCHEDULES[run]),
        templates=case.templates,
    )


def test_stored_tensors_are_those_that_the_programs_computed(case: Golden) -> None:
    """To a tenth of what deltas may differ by; all others bit for bit."""
    original = ROOT.parent / "shared" / "golden"
    if not original.is_dir():
        pytest.skip(f"the original golden values are not at {original}")
    theirs = read_tensors(original)
    assert case.tensors.keys() <= theirs.keys()
    for name, ours in case.tensors.items():
        if ".delta." in name or ".merged." in name:
            assert_same(ours, theirs[name], COPY)
        else:
            assert torch.equal(ours, theirs[name]), name


@pytest.mark.training
@pytest.mark.parametrize("run", RUNS)
def test_targets_are_the_published_ones(
    case: Golden, targets: Targets, run: str
) -> None:
    """Over all requests and for every one; both programs started from one model."""
    theirs = case.rows(f"{run}.targets")
    assert_same(targets.states, theirs, GOLDEN_TARGETS)
    for ours, each in zip(targets.states, theirs, strict=True):
        assert_same(ours, each, GOLDEN_TARGETS)


@pytest.mark.parametrize("run", CLIENTS)
def test_targets_of_a_client_are_those_of_its_requests(
    case: Golden, targets: Targets, run: str
) -> None:
    """What other parties ask for does not matter."""
    ours = targets.states[case.places_of(run)]
    assert_same(ours, case.rows(f"{run}.targets"), GOLDEN_TARGETS)


@pytest.mark.parametrize("sizes", [(), (24,), (1, 5, 2), (2,) * 12])
def test_clients_take_the_requests_in_turn_however_many_they_are(
    case: Golden, sizes: tuple[int, ...]
) -> None:
    """The files say how many there are, and how many requests each has."""
    tensors = {
        f"frozen.client{number}.targets": torch.zeros(1, size)
        for number, size in enumerate(sizes)
    }
    some = replace(case, tensors=tensors)
    requests = iter(case.requests)
    assert len(some.clients) == len(sizes)
    for client, size in zip(some.clients, sizes, strict=True):
        assert some.requests_of(client) == list(islice(requests, size))
    assert some.requests_of("memit") == case.requests


@pytest.mark.parametrize("run", FROZEN)
def test_keys_of_the_unedited_model_are_the_published_ones(
    case: Golden, run: str
) -> None:
    """For all requests, and for each client's."""
    keys = extract_keys(case.model, case.requests_of(run), case.templates, case.layers)
    for layer in LAYERS:
        assert_same(keys[layer], case.rows(f"{run}.keys.{layer}"), GOLDEN_PAIRS)


@pytest.mark.parametrize("run", FROZEN)
def test_residuals_of_the_unedited_model_are_the_published_ones(
    case: Golden, run: str
) -> None:
    """Given the published targets: 1/3, 1/2 and all of what is missing."""
    hidden = read_hidden(case.model, case.requests_of(run), LAYERS[-1])
    for index, layer in enumerate(LAYERS):
        share = case.parameters.share(index, "frozen-harmonic")
        ours = compute_residuals(case.rows(f"{run}.targets"), hidden, share)
        assert_same(ours, case.rows(f"{run}.residuals.{layer}"), GOLDEN_PAIRS)


@pytest.mark.parametrize("layer", LAYERS)
def test_layerwise_pairs_are_the_published_ones(case: Golden, layer: int) -> None:
    """On the model that the published updates of earlier layers have edited."""
    earlier = {
        case.model.weight_name(k): case.tensors[f"memit.delta.{k}"]
        for k in LAYERS
        if k < layer
    }
    with applied(earlier, case.model.model):
        keys = extract_keys(case.model, case.requests, case.templates, [layer])[layer]
        hidden = read_hidden(case.model, case.requests, LAYERS[-1])
    assert_same(keys, case.rows(f"memit.keys.{layer}"), GOLDEN_PAIRS)
    share = case.parameters.share(LAYERS.index(layer), "layerwise")
    ours = compute_residuals(case.rows("memit.targets"), hidden, share)
    assert_same(ours, case.rows(f"memit.residuals.{layer}"), GOLDEN_PAIRS)


@pytest.mark.parametrize("run", RUNS)
def test_deltas_from_published_targets_are_the_published_ones(
    case: Golden, run: str
) -> None:
    """Keys, residuals and solves of all layers in their schedule."""
    hidden = read_hidden(case.model, case.requests, LAYERS[-1])
    tolerance = delta_tolerance(case, run)
    ours = edit_alone(
        case.model,
        case.requests,
        plan_of(case, run),
        case.priors,
        targets=make_targets(hidden, case.rows(f"{run}.targets")),
    )
    assert ours.keys() == case.delta(run).keys()
    for name, theirs in case.delta(run).items():
        assert_same(ours[name], theirs, tolerance)


@pytest.mark.parametrize("run", RUNS)
def test_deltas_end_to_end_are_the_published_ones(
    case: Golden, targets: Targets, run: str
) -> None:
    """From requests to deltas, with our own targets."""
    ours = edit_alone(
        case.model, case.requests, plan_of(case, run), case.priors, targets=targets
    )
    for name, theirs in case.delta(run).items():
        assert_same(ours[name], theirs, GOLDEN_END_TO_END)


@pytest.mark.parametrize("run", RUNS)
def test_evaluation_is_the_published_one(case: Golden, run: str) -> None:
    """The same correctness and successes; likelihoods to three digits."""
    with applied(case.delta(run), case.model.model):
        ours: list[Any] = evaluate_requests(case.model, case.requests)
    assert len(ours) == len(case.cases[run])
    for mine, theirs in zip(ours, case.cases[run], strict=True):
        assert mine["case_id"] == theirs["case_id"]
        assert mine["post"].keys() >= theirs["post"].keys()
        for field, expected in theirs["post"].items():
            if field.endswith("_correct"):
                assert mine["post"][field] == expected
                continue
            pairs = zip(mine["post"][field], expected, strict=True)
            for found, wanted in pairs:
                assert found == pytest.approx(wanted, abs=GOLDEN_END_TO_END)
                assert prefers_new(found) == prefers_new(wanted)


def prefers_new(likelihoods: dict[str, float]) -> bool:
    """Return whether the model finds the new object likelier."""
    return likelihoods["target_new"] < likelihoods["target_true"]
