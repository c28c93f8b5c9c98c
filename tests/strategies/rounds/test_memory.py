"""Laws of the memory."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.solving import solve_delta
from editing.algebra.statistics import LayerStatistics, pool
from editing.base.errors import InputError
from strategies.rounds.memory import Memory
from tests.laws import assert_same, draw_pairs, draw_prior, draw_statistics

SEEDS = st.integers(0, 2**16)
WEIGHTS = st.floats(0.01, 100)


@given(weight=WEIGHTS, memory_weight=st.floats(0, 100), rounds=st.integers(0, 3))
def test_prior_is_the_weighted_sum_of_text_and_past(
    weight: float, memory_weight: float, rounds: int
) -> None:
    """The definition, term by term."""
    memory = Memory.of_covariance(draw_prior(), weight, memory_weight)
    expected = weight * draw_prior()
    for seed in range(rounds):
        memory = memory.remember(draw_statistics(2, seed).gram)
        expected = expected + memory_weight * draw_statistics(2, seed).gram
    assert_same(memory.prior().matrix(), expected)


@given(weight=WEIGHTS)
def test_a_memory_of_weight_zero_forgets(weight: float) -> None:
    """The immutable covariance is a special case."""
    fresh = Memory.of_covariance(draw_prior(), weight, 0.0)
    later = fresh.remember(draw_statistics(4).gram)
    assert torch.equal(later.prior().matrix(), fresh.prior().matrix())


def test_remembering_leaves_the_earlier_memory_alone() -> None:
    """A round that fails can be run again."""
    memory = Memory.of_covariance(draw_prior(), 2.0, 1.0)
    before = memory.prior().matrix()
    memory.remember(draw_statistics(4).gram)
    assert torch.equal(memory.prior().matrix(), before)


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), seed=SEEDS)
def test_rounds_remembered_at_weight_one_equal_one_batch(
    sizes: list[int], seed: int
) -> None:
    """Recursive least squares: residuals left by earlier rounds, grams remembered.

    Exact for a layer by itself; in a model the residuals also depend on other layers.
    """
    keys, residuals = draw_pairs(sum(sizes), seed)
    memory = Memory.of_covariance(draw_prior(seed), 2.0, 1.0)
    alone = solve_delta(LayerStatistics.of_pairs(keys, residuals), memory.prior())
    written = torch.zeros_like(alone)
    for key, residual in zip(
        torch.split(keys, sizes), torch.split(residuals, sizes), strict=True
    ):
        left = LayerStatistics.of_pairs(key, residual - key @ written.mT)
        written = written + solve_delta(left, memory.prior())
        memory = memory.remember(left.gram)
    assert_same(written, alone)


def test_the_order_of_past_rounds_does_not_matter() -> None:
    """Their grams add."""
    memory = Memory.of_covariance(draw_prior(), 2.0, 1.0)
    first, second = draw_statistics(2, 1), draw_statistics(3, 2)
    together = memory.remember(pool([first, second]).gram)
    apart = memory.remember(second.gram).remember(first.gram)
    assert_same(apart.prior().matrix(), together.prior().matrix())


def test_a_single_precision_covariance_is_remembered_in_double() -> None:
    """One cast at the border."""
    memory = Memory.of_covariance(draw_prior().float(), 2.0, 1.0)
    assert memory.prior().matrix().dtype == torch.float64


@pytest.mark.parametrize(
    ("weight", "memory_weight"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (torch.nan, 1.0), (1.0, torch.nan)],
)
def test_weights_without_sense_are_refused(weight: float, memory_weight: float) -> None:
    """Say which came."""
    with pytest.raises(InputError, match=f"got {weight} and {memory_weight}"):
        Memory.of_covariance(draw_prior(), weight, memory_weight)
