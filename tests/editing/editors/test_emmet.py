"""EMMET's solve is its definition, and ROME's for one edit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.editors.emmet import EmmetEditor
from editing.editors.system import LayerState
from tests.laws import ALGEBRA, assert_same, draw_pairs, draw_prior

SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize("slack", [0.1, 2.0])
@given(edits=st.integers(1, 7), seed=SEEDS)
def test_edits_are_reached_up_to_a_slack(slack: float, edits: int, seed: int) -> None:
    """``Rᵀ (K A⁻¹ Kᵀ + μI)⁻¹ K A⁻¹``, with one row for each edit."""
    (keys, residuals), held = draw_pairs(edits, seed), 3.0 * draw_prior(seed)
    state = LayerState(Prior(draw_prior(seed), 3.0))
    inverse = held.inverse()
    middle = keys @ inverse @ keys.mT + slack * torch.eye(edits, dtype=torch.float64)
    expected = residuals.mT @ middle.inverse() @ keys @ inverse
    part = LayerStatistics.of_pairs(keys, residuals)
    assert_same(EmmetEditor(slack=slack).system(state).solve(part), expected, ALGEBRA)


@given(seed=SEEDS)
def test_of_one_edit_it_is_rome_as_the_slack_vanishes(seed: int) -> None:
    """``r (C₀⁻¹k)ᵀ / (kᵀ C₀⁻¹ k)``."""
    (keys, residuals), text = draw_pairs(1, seed), draw_prior(seed)
    left = text.inverse() @ keys[0]
    expected = torch.outer(residuals[0], left) / (left @ keys[0])
    part = LayerStatistics.of_pairs(keys, residuals)
    state = LayerState(Prior(text, 1.0))
    found = EmmetEditor(slack=1e-9).system(state).solve(part)
    assert_same(found, expected, 1e-6)
