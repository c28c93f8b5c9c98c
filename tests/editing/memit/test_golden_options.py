"""Targets with norm-anchor scaling and ``top-1`` against published programs."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from editing.algebra.deltas import applied
from editing.hyperparameters.config import Hyperparameters
from editing.memit.norm_anchor import read_values, reference_norm
from editing.memit.targets import (
    Targets,
    anchor,
    compute_targets,
    measure_value_norms,
)
from editing.models.loading import load_editable_model
from editing.requests.edit_request import EditRequest
from tests.golden import (
    FOLDER,
    GOLDEN_TARGETS,
    Golden,
    load_golden,
    read_batches,
    read_methods,
)
from tests.laws import assert_same, relative_difference
from tests.trees import ROOT

TENSORS = load_file(
    ROOT / "tests" / "data" / "golden_editors" / "targets" / "options.safetensors"
)
ANCHOR = float(TENSORS["nas.reference_norm"])
SKIP = read_methods()["nas_skip"]
LATER = read_methods()["encore_all_tokens"].get("stops_before_the_bare_prompt", [])
"""The program leaves the bare prompt out, after which this answer comes last."""

LONG_SEARCH = 2e-4
"""Relative difference allowed to a search that never stops; 24 steps amplify rounding.

Single precision moves one of them by 3e-3 from float64, and another by 1.2e-4.
"""


@pytest.fixture(scope="module")
def case(golden: Path) -> Golden:
    """Load the model and the requests once."""
    return load_golden(golden)


def rows(name: str) -> Tensor:
    """Return targets, rows being edits."""
    return TENSORS[name].mT


def batch_of(case: Golden, number: int) -> list[EditRequest]:
    """Return the requests of a batch."""
    return [case.requests[place] for place in read_batches()[number]]


def edit_before(case: Golden, run: str, number: int) -> dict[str, Tensor]:
    """Return the program's edit with the batches before."""
    if number == 0:
        return {}
    names = {layer: f"{run}.batch0.delta.{layer}" for layer in case.layers}
    return {
        case.model.weight_name(layer): TENSORS[f"{name}.left"]
        @ TENSORS[f"{name}.right"]
        for layer, name in names.items()
    }


def set_to(case: Golden, **changes: object) -> Hyperparameters:
    """Change the published hyperparameters."""
    return case.parameters.model_copy(update=changes)


def search(
    case: Golden, requests: list[EditRequest], parameters: Hyperparameters
) -> Targets:
    """Find targets after the published templates."""
    return compute_targets(case.model, requests, case.templates, parameters)


def test_lengths_of_values_are_the_published_ones(case: Golden) -> None:
    """After the bare prompt alone; no batch of theirs was stopped by its mean loss."""
    norms = measure_value_norms(case.model, case.requests, ["{}"], case.parameters)
    assert_same(norms, TENSORS["nas.reference_norms"], GOLDEN_TARGETS)
    assert reference_norm(norms) == pytest.approx(ANCHOR, rel=GOLDEN_TARGETS)


def test_the_reference_leaves_the_largest_out() -> None:
    """A twentieth of them."""
    norms = TENSORS["nas.reference_norms"]
    assert reference_norm(norms) == pytest.approx(ANCHOR, rel=1e-6)
    assert reference_norm(norms) < norms.mean() * (1 - GOLDEN_TARGETS)


def test_anchored_targets_are_the_published_ones(case: Golden) -> None:
    """Of all requests at once on the original model, each to the tolerance."""
    ours = search(case, case.requests, set_to(case, norm_anchor=ANCHOR))
    for mine, theirs in zip(ours.states, rows("nas_memit.targets"), strict=True):
        assert_same(mine, theirs, GOLDEN_TARGETS)


def test_values_that_are_far_too_long_are_not_written(case: Golden) -> None:
    """Where ``‖v*‖ > 2c``; the others are shortened."""
    asked = case.requests[: SKIP["requests"]]
    ours = search(case, asked, set_to(case, norm_anchor=SKIP["reference_norm"]))
    for mine, theirs in zip(ours.states, rows("nas_skip.targets"), strict=True):
        assert_same(mine, theirs, GOLDEN_TARGETS)
    still = (ours.shift == 0).all(dim=1).nonzero().squeeze(1)
    assert still.tolist() == SKIP["skipped"]


@pytest.mark.parametrize("number", [0, 1])
def test_anchored_targets_of_a_sequence_are_the_published_ones(
    case: Golden, number: int
) -> None:
    """On the model that AlphaEdit edited with the batch before."""
    requests, run = batch_of(case, number), f"nas_alphaedit.batch{number}"
    with applied(edit_before(case, "nas_alphaedit", number), case.model.model):
        free = search(case, requests, case.parameters)
        values = read_values(case.model, requests, case.layers[-1])
        ours = anchor(case.model, requests, free, set_to(case, norm_anchor=ANCHOR))
    wanted = rows(f"{run}.value_before_scaling")
    assert_same(values + free.shift, wanted, GOLDEN_TARGETS)
    assert_same(ours.states, rows(f"{run}.targets"), GOLDEN_TARGETS)


@pytest.mark.parametrize("number", [0, 1])
def test_targets_that_stop_at_top_1_are_the_published_ones(number: int) -> None:
    """In float64.

    The program leaves the bare prompt out of its rule, so one of its searches ends an
    evaluation earlier; there, ours is the same at that evaluation.
    """
    case = load_golden(FOLDER)
    model = load_editable_model(str(FOLDER / "model"), "float64")
    requests, rule = batch_of(case, number), set_to(case, stop="top-1")
    theirs = rows(f"encore_all_tokens.batch{number}.targets")
    batch = read_batches()[number]
    steps = TENSORS["encore_all_tokens.steps"][batch].int().tolist()
    with applied(edit_before(case, "encore_all_tokens", number), model.model):
        ours = compute_targets(model, requests, case.templates, rule).states
        for place, request in enumerate(requests):
            if batch[place] in LATER:
                assert relative_difference(ours[place], theirs[place]) > 0.1
                cut = {"v_num_grad_steps": steps[place] + 1}
                before = rule.model_copy(update=cut)
                found = compute_targets(model, [request], case.templates, before)
                assert not found.stopped
                ours[place] = found.states[0]
    assert_same(ours, theirs, GOLDEN_TARGETS)
    most = case.parameters.v_num_grad_steps - 1
    for mine, other, taken in zip(ours, theirs, steps, strict=True):
        assert_same(mine, other, LONG_SEARCH if taken == most else GOLDEN_TARGETS)
