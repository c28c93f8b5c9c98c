"""AlphaEdit's solve is its definition, and writes in the null space alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.base.errors import InputError
from editing.editors.alphaedit import AlphaEditEditor, find_free_of_text
from tests.editing.editors.laws import (
    Past,
    assert_is_definition,
    draw_rounds,
    rounds_of,
)
from tests.laws import draw_prior

SEEDS = st.integers(0, 2**16)


def projector(moment: Tensor, threshold: float) -> Tensor:
    """Compute ``P``, one eigenvector after the other."""
    values, vectors = torch.linalg.eigh(moment)
    found = torch.zeros_like(moment)
    for value, vector in zip(values, vectors.mT, strict=True):
        if value < threshold:
            found += torch.outer(vector, vector)
    return found


def between(moment: Tensor, place: int = 2) -> float:
    """Choose a threshold above so many eigenvalues."""
    values = torch.linalg.eigvalsh(moment)
    return float(values[place - 1] + values[place]) / 2


@given(seed=SEEDS, ridge=st.sampled_from([0.1, 5.0]))
def test_a_round_is_solved_in_the_null_space(seed: int, ridge: float) -> None:
    """``B P ((S + γM) P + βI)⁻¹``, the published way."""
    threshold = between(draw_prior(seed))

    def define(past: Past, gram: Tensor, cross: Tensor) -> Tensor:
        free = projector(past.text, threshold)
        system = (gram + past.gram) @ free + ridge * torch.eye(
            len(gram), dtype=torch.float64
        )
        return cross @ free @ system.inverse()

    editor = AlphaEditEditor(threshold=threshold, ridge=ridge)
    assert_is_definition(editor, define, seed)


@given(seed=SEEDS)
def test_outside_of_the_null_space_nothing_is_written(seed: int) -> None:
    """In no round."""
    text = draw_prior(seed)
    threshold = between(text)
    used = torch.eye(len(text), dtype=torch.float64) - projector(text, threshold)
    editor = AlphaEditEditor(threshold=threshold, ridge=0.5)
    for delta, _ in rounds_of(editor, text, draw_rounds((2, 3), seed)):
        assert (delta @ used).norm() < 1e-12 * delta.norm()


@pytest.mark.parametrize(("threshold", "why"), [(1e-9, "none"), (1e9, "each")])
def test_a_threshold_that_leaves_no_choice_is_refused(
    threshold: float, why: str
) -> None:
    """Naming the setting."""
    with pytest.raises(InputError, match=rf"`editor\.threshold`: {why} of the 5"):
        find_free_of_text(draw_prior(), threshold)
