"""BetaEdit's solve is its definition, its null space renewed in time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.editors.betaedit import BetaEditEditor
from tests.editing.editors.laws import GAMMA, Past, assert_is_definition
from tests.editing.editors.test_alphaedit import between, projector
from tests.laws import draw_prior

SEEDS = st.integers(0, 2**16)
SIZES = (2, 3, 1, 4)
TEXT_WEIGHT, RIDGE = 2.0, 0.5


@pytest.mark.parametrize(
    ("after", "renewed"), [(1, (0, 1, 2)), (4, (1,)), (5, (1,)), (99, ())]
)
@given(seed=SEEDS)
def test_the_null_space_is_renewed_after_so_many_edits(
    after: int, renewed: tuple[int, ...], seed: int
) -> None:
    """``B P ((S + γM + λ₁C₀) P + λ₂I)⁻¹``, over rounds of 2, 3, 1 and 4 edits.

    What is renewed after is given by the number of the round.
    """
    threshold = between(draw_prior(seed), 4)

    def define(past: Past, gram: Tensor, cross: Tensor) -> Tensor:
        free = projector(past.text, threshold)
        done = [number for number in renewed if number < len(past.grams)]
        if done:
            grams = sum(GAMMA * each for each in past.grams[: done[-1] + 1])
            mixed = grams / sum(SIZES[: done[-1] + 1]) + TEXT_WEIGHT * past.text
            free = projector(mixed / (TEXT_WEIGHT + 1), threshold)
        system = (gram + past.gram + TEXT_WEIGHT * past.text) @ free
        system += RIDGE * torch.eye(len(gram), dtype=torch.float64)
        return cross @ free @ system.inverse()

    editor = BetaEditEditor(
        threshold=threshold, text_weight=TEXT_WEIGHT, ridge=RIDGE, renew_after=after
    )
    assert_is_definition(editor, define, seed, SIZES)
