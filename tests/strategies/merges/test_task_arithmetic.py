"""Laws of task arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from editing.algebra.solving import Prior, solve_delta
from editing.editors.system import System
from strategies.merges.task_arithmetic import TaskArithmeticMerge
from tests.laws import (
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_parties,
    draw_prior,
)

SEEDS = st.integers(0, 2**16)


@given(scale=st.floats(0.1, 10), seed=SEEDS)
def test_task_arithmetic_is_its_definition(scale: float, seed: int) -> None:
    """Add what the parties write alone, and scale."""
    first, second = parties = draw_parties([2, 3], seed)
    prior = Prior(draw_prior(seed))
    total = solve_delta(first, prior) + solve_delta(second, prior)
    assert_same(TaskArithmeticMerge(scale=scale)(parties, System(prior)), scale * total)


@given(seed=SEEDS)
def test_laws_of_every_merge(seed: int) -> None:
    """Parties have no order, and unscaled one party is on its own."""
    assert_order_of_parties_never_matters(TaskArithmeticMerge(scale=0.7), seed)
    assert_one_party_gets_its_own_delta(TaskArithmeticMerge(), seed)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_without_sense_is_refused(scale: float) -> None:
    """When the settings are read, not in round three."""
    with pytest.raises(ValidationError, match="scale"):
        TaskArithmeticMerge(scale=scale)
