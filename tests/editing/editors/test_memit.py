"""MEMIT's solve is its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.editors.memit import MemitEditor
from tests.editing.editors.laws import WEIGHT, Past, assert_is_definition

SEEDS = st.integers(0, 2**16)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@given(seed=SEEDS)
def test_a_round_is_a_ridge_regression(ridge: float, seed: int) -> None:
    """``B (λC₀ + γM + ρI + S)⁻¹``."""

    def define(past: Past, gram: Tensor, cross: Tensor) -> Tensor:
        held = WEIGHT * past.text + past.gram
        held += ridge * torch.eye(len(gram), dtype=torch.float64)
        return cross @ (held + gram).inverse()

    assert_is_definition(MemitEditor(ridge=ridge), define, seed)
