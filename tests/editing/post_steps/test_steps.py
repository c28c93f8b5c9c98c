"""Laws of the steps after the solve, and what the published programs computed."""

from functools import cache
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import Tensor

from editing.post_steps.steps import (
    AnyPostStep,
    PostStep,
    PruneStep,
    RectStep,
    SphereStep,
    find_shared_directions,
)
from tests.golden import FOLDER, read_methods, read_tensors
from tests.laws import assert_same, draw_pairs

GOLDEN_RECT = 1e-6
GOLDEN_STEP = 1e-5
"""Relative differences allowed to what was computed in float32."""

ROWS = slice(None, None, 8)
"""The rows that are kept of each published update."""

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)


@cache
def published() -> dict[str, Tensor]:
    """Read what the programs computed at layer 2."""
    return load_file(FOLDER.with_name("golden_merges") / "post_steps.safetensors")


@cache
def weight() -> Tensor:
    """Read the unedited weight of layer 2."""
    stored = load_file(FOLDER / "model" / "model.safetensors")
    return stored["transformer.h.2.mlp.c_proj.weight"].double().mT.contiguous()


def test_rect_writes_what_the_published_program_writes() -> None:
    """Of one entry more than its share, as the program counts."""
    delta = read_tensors(FOLDER)["memit.delta.2"].double()
    step = RectStep(density=26216 / delta.numel())
    ours = step(delta, weight(), weight())
    assert_same(ours[ROWS], published()["rect.written.2"], GOLDEN_RECT)


def test_prune_reduces_two_updates_as_the_published_program_does() -> None:
    """All at once, and the second one on a weight that carries the first."""
    first, second = [
        published()[f"memit_plain.batch{batch}.residuals.2"].double()
        @ published()[f"memit_plain.batch{batch}.adj_keys.2"].double().mT
        for batch in (0, 1)
    ]
    step, theirs = PruneStep(), published()["prune.update.2"]
    together = step(first + second, weight(), weight())
    assert_same(together[ROWS], theirs, GOLDEN_STEP)
    later = step(second, weight() + first, weight())
    assert_same((first + later)[ROWS], theirs, GOLDEN_STEP)


def test_sphere_weakens_what_the_published_program_weakens() -> None:
    """In as many directions, row by row."""
    delta = torch.zeros_like(weight())
    delta[ROWS] = published()["alphaedit.batch0.delta.2"].double()
    ours = SphereStep()(delta, weight(), weight())[ROWS]
    assert_same(ours, published()["sphere.delta.2"], GOLDEN_STEP)
    kept = read_methods()["sphere"]["kept_directions"]["2"]
    assert len(find_shared_directions(weight(), 0.5)) == kept


def draw(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw an update, a weight after earlier ones, and the weight before those."""
    drawn = [draw_pairs(4, seed + place, 6)[0] for place in range(3)]
    return drawn[0], drawn[1] + drawn[2], drawn[2]


@FEW
@given(seed=SEEDS, density=st.sampled_from([0.01, 0.4, 1.0]))
def test_rect_is_its_definition(seed: int, density: float) -> None:
    """By sorting relative changes; of the weight before any edit."""
    delta, now, original = draw(seed)
    change = (delta / (original + 1e-8)).abs().flatten().tolist()
    count = -(-int(1000 * density) * len(change) // 1000)
    kept = sorted(range(len(change)), key=lambda place: -change[place])[:count]
    expected = torch.zeros(len(change), dtype=torch.float64)
    expected[kept] = delta.flatten()[kept]
    found = RectStep(density=density)(delta, now, original)
    assert torch.equal(found, expected.reshape(delta.shape))


@FEW
@given(seed=SEEDS)
def test_prune_is_its_definition(seed: int) -> None:
    """By the singular values of the total; a small total stays as it is."""
    delta, now, original = draw(seed)
    bound = float(torch.linalg.matrix_norm(original, ord=2))
    left, values, right = torch.linalg.svd(now - original + delta, full_matrices=False)
    reduced = [
        log(size) - log(bound) + bound if size > bound else size
        for size in values.tolist()
    ]
    total = left @ torch.diag(torch.tensor(reduced, dtype=torch.float64)) @ right
    assert_same(PruneStep()(delta, now, original), total - (now - original))
    small = 0.1 * bound * delta / torch.linalg.matrix_norm(delta, ord=2)
    assert torch.equal(PruneStep()(small, original, original), small)


@FEW
@given(seed=SEEDS, energy=st.sampled_from([0.1, 0.5, 0.9]))
def test_sphere_is_its_definition(seed: int, energy: float) -> None:
    """By the eigenvectors of the gram of unit rows, one row at a time."""
    delta, now, original = draw(seed)
    unit = torch.stack([row / row.norm() for row in original])
    values, vectors = torch.linalg.eigh(unit.mT @ unit)
    order = values.argsort(descending=True)
    chosen: list[Tensor] = []
    held = 0.0
    for place in order.tolist():
        chosen.append(vectors[:, place])
        held += float(values[place] / values.sum())
        if held > energy:
            break
    expected = delta.clone()
    for direction in chosen:
        expected -= 0.3 * torch.outer(delta @ direction, direction)
    assert_same(SphereStep(energy=energy, strength=0.3)(delta, now, original), expected)


@pytest.mark.parametrize("step", [RectStep(), SphereStep(), PruneStep()])
def test_a_step_changes_none_of_what_it_is_given(step: PostStep) -> None:
    """The round's record and the model still hold them."""
    drawn = draw(3)
    before = [each.clone() for each in drawn]
    step(*drawn)
    assert all(map(torch.equal, drawn, before))


def test_a_step_is_chosen_by_its_name_with_its_settings() -> None:
    """And a wrong one is refused."""
    reader: TypeAdapter[PostStep] = TypeAdapter(AnyPostStep)
    assert reader.validate_python({"name": "rect", "density": 0.2}) == RectStep(
        density=0.2
    )
    for wrong in ({"name": "rectt"}, {"name": "sphere", "energy": 1.0}):
        with pytest.raises(ValidationError):
            reader.validate_python(wrong)
