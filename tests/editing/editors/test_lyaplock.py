"""LyapLock's solve is its definition, with the weights that the program reads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.solving import Prior
from editing.editors.lyaplock import ALLOWED, QUEUE, LyapLockEditor
from editing.editors.system import LayerState
from tests.editing.editors.laws import (
    GAMMA,
    WEIGHT,
    Past,
    assert_is_definition,
    draw_rounds,
    rounds_of,
)
from tests.laws import ALGEBRA, assert_same, draw_prior

SEEDS = st.integers(0, 2**16)


def loss(total: Tensor, text: Tensor) -> float:
    """Compute ``tr((W − W₀) C₀ (W − W₀)ᵀ)``."""
    return float((total @ text @ total.mT).trace())


def queue_after(past: Past, budget: float) -> tuple[float, float]:
    """Move the queue round by round; return it, and ``a``."""
    allowed = budget * loss(past.totals[0], past.text)
    scale, floor = allowed**-0.5, allowed**0.5
    queue = floor
    for total in past.totals:
        queue = max(queue + scale * (loss(total, past.text) - allowed), floor)
    return queue, scale


@pytest.mark.parametrize(("budget", "edit_weight"), [(0.5, 1.0), (2.0, 3.0)])
@given(seed=SEEDS)
def test_a_round_is_weighed_by_the_queue(
    budget: float, edit_weight: float, seed: int
) -> None:
    """With original and current weights and the values reached, as published."""
    generator = torch.Generator().manual_seed(seed)
    original = torch.randn(3, 5, generator=generator, dtype=torch.float64)

    def define(past: Past, gram: Tensor, cross: Tensor) -> Tensor:
        if not past.grams:
            return cross @ (WEIGHT * past.text + gram).inverse()
        queue, scale = queue_after(past, budget)
        weight, current = scale * queue * WEIGHT, original + past.total
        pairs = zip(past.totals, past.grams, strict=True)
        values = sum((original + one) @ (GAMMA * each) for one, each in pairs)
        left = edit_weight * (cross + values - current @ past.gram)
        left = left + weight * (original - current) @ past.text
        right = edit_weight * (gram + past.gram) + weight * past.text
        return left @ right.inverse()

    editor = LyapLockEditor(budget=budget, edit_weight=edit_weight)
    assert_is_definition(editor, define, seed)


@given(seed=SEEDS)
def test_the_queue_is_what_rounds_have_cost(seed: int) -> None:
    """It begins at its floor and never falls below it."""
    text, budget = draw_prior(seed), 0.5
    past = Past(text, torch.zeros_like(text), text.new_zeros(3, 5))
    editor, rounds = LyapLockEditor(budget=budget), draw_rounds((2, 3, 1), seed)
    found = rounds_of(editor, text, rounds)
    for statistics, (delta, kept) in zip(rounds, found, strict=True):
        past = past.after(statistics, delta)
        queue, scale = queue_after(past, budget)
        assert_same(kept[QUEUE], torch.tensor([queue], dtype=torch.float64), ALGEBRA)
        assert kept[ALLOWED].item() == pytest.approx(scale**-2, rel=ALGEBRA)
        assert kept[QUEUE] >= kept[ALLOWED].sqrt()


def test_a_round_that_writes_nothing_sets_no_budget() -> None:
    """The first round that costs something is the first; until then it is MEMIT."""
    generator = torch.Generator().manual_seed(4)
    gram, written = draw_prior(5, 5), torch.randn(3, 5, generator=generator).double()
    editor = LyapLockEditor(budget=2.0)
    start = LayerState(Prior(draw_prior(4, 5), WEIGHT, memory_weight=GAMMA))
    nothing = torch.zeros(3, 5, dtype=torch.float64)
    kept = editor.remember(start, gram, 1, nothing)
    assert kept == {}
    later = LayerState(start.prior, nothing, kept)
    assert editor.system(later).cross is None
    found = editor.remember(later, gram, 1, written)
    expected = editor.remember(start, gram, 1, written)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
