"""EMMET with one request and a slack near 0 is ROME, by what its program computed."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.emmet import EmmetEditor
from editing.editors.system import LayerState
from editing.memit.keys import extract_keys
from tests.golden import EDITORS, FOLDER, Golden, load_golden
from tests.laws import assert_same

LAYER = 2
TENSORS = load_file(EDITORS / "rome.safetensors")
LEFT = TENSORS["rome.left"].double().mT
TOLERANCE = 1e-5
NO_SLACK = 1e-9


@pytest.fixture(scope="module")
def case() -> Golden:
    """Load the model and the requests once."""
    return load_golden(FOLDER)


@pytest.fixture(scope="module")
def keys(case: Golden) -> tuple[Tensor, Tensor]:
    """Read the keys of the bare prompts, and the plain means over all contexts.

    MEMIT's key has half of its weight on the bare prompt.
    """
    requests, count = case.requests[: len(LEFT)], len(case.templates)
    bare, halved = (
        extract_keys(case.model, requests, templates, (LAYER,))[LAYER]
        for templates in (case.templates[:1], case.templates)
    )
    others = 2 * halved - bare
    return bare, (bare + (count - 1) * others) / count


def test_one_constrained_edit_is_rome_s(
    case: Golden, keys: tuple[Tensor, Tensor]
) -> None:
    """The update of each request, given what it adds at the key: `right (leftᵀ k)`."""
    _, means = keys
    prior = Prior(case.tensors[f"covariance.{LAYER}"].double(), 20.0)
    system = EmmetEditor(slack=NO_SLACK).system(LayerState(prior))
    right = TENSORS["rome.right"].double().mT
    published = torch.einsum("no,ni->noi", right, LEFT)
    found = [
        system.solve(LayerStatistics.of_pairs(key[None], (update @ key)[None]))
        for key, update in zip(means, published, strict=True)
    ]
    assert_same(torch.stack(found), published, TOLERANCE)


def test_rome_and_r_rome_reach_one_value_at_keys_of_their_own(
    case: Golden, keys: tuple[Tensor, Tensor]
) -> None:
    """``W k' + right (leftᵀ k')`` is `v*`, ``k'`` bare in ROME and a mean in R-ROME."""
    name = case.model.weight_name(LAYER)
    weight = dict(case.model.model.named_parameters())[name].double()
    reached = [
        own @ weight + (LEFT * own).sum(dim=1, keepdim=True) * right.double().mT
        for own, right in zip(
            keys, (TENSORS["rome.right"], TENSORS["r_rome.right"]), strict=True
        )
    ]
    assert_same(reached[1], reached[0], TOLERANCE)
    swapped = keys[1] @ weight + (LEFT * keys[1]).sum(dim=1, keepdim=True) * (
        TENSORS["rome.right"].double().mT
    )
    assert (swapped - reached[0]).norm() > 0.01 * reached[0].norm()
