"""Laws of the simple average."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import StatisticsError
from editing.editors.system import System
from strategies.merges.average import SimpleAverageMerge
from tests.laws import (
    assert_equal_parties_get_their_delta,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_parties,
    draw_prior,
)

SEEDS = st.integers(0, 2**16)
BY_PARTIES = SimpleAverageMerge()
BY_EDITS = SimpleAverageMerge(weighting="edits")


@given(seed=SEEDS)
def test_average_by_parties_is_its_definition(seed: int) -> None:
    """Each party has one vote, and there are three."""
    first, second, third = parties = draw_parties([1, 2, 4], seed)
    prior = Prior(draw_prior(seed))
    total = solve_delta(first, prior) + solve_delta(second, prior)
    total = total + solve_delta(third, prior)
    assert_same(BY_PARTIES(parties, System(prior)), total / 3)


@given(seed=SEEDS)
def test_average_by_edits_is_its_definition(seed: int) -> None:
    """Each edit has one vote, and there are seven."""
    first, second, third = parties = draw_parties([1, 2, 4], seed)
    prior = Prior(draw_prior(seed))
    total = 1 * solve_delta(first, prior) + 2 * solve_delta(second, prior)
    total = total + 4 * solve_delta(third, prior)
    assert_same(BY_EDITS(parties, System(prior)), total / 7)


@given(seed=SEEDS)
def test_weightings_agree_on_parties_of_one_size(seed: int) -> None:
    """And only there."""
    prior = Prior(draw_prior(seed))
    even, uneven = draw_parties([3, 3], seed), draw_parties([1, 5], seed)
    assert_same(BY_EDITS(even, System(prior)), BY_PARTIES(even, System(prior)))
    by_edits = BY_EDITS(uneven, System(prior))
    assert not torch.allclose(by_edits, BY_PARTIES(uneven, System(prior)))


@pytest.mark.parametrize("merge", [BY_PARTIES, BY_EDITS])
@given(seed=SEEDS)
def test_laws_of_a_merge_that_averages(merge: SimpleAverageMerge, seed: int) -> None:
    """Parties have no order; one party, or equal ones, write what one writes alone."""
    assert_order_of_parties_never_matters(merge, seed)
    assert_one_party_gets_its_own_delta(merge, seed)
    assert_equal_parties_get_their_delta(merge, seed)


def test_no_party_is_an_error() -> None:
    """Say what was needed."""
    with pytest.raises(StatisticsError, match="at least one party"):
        BY_PARTIES([], System(Prior(draw_prior())))
