"""Laws of the simple average."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import StatisticsError
from editing.base.errors import InputError
from editing.editors.system import System
from strategies.merges.average import SimpleAverageMerge
from strategies.merges.base import MergeContext
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


@settings(max_examples=12)
@given(seed=SEEDS)
def test_weights_multiply_the_votes_of_the_parties_they_belong_to(seed: int) -> None:
    """By number, so that a party that is not there changes nobody else's."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    first, second, third = [solve_delta(each, prior) for each in parties]
    weights = (0.5, 3.0, 1.0)
    by_parties = SimpleAverageMerge(weights=weights)
    by_edits = SimpleAverageMerge(weights=weights, weighting="edits")
    expected = (0.5 * first + 3 * second + third) / 4.5
    assert_same(by_parties(parties, System(prior)), expected)
    expected = (0.5 * first + 3 * 2 * second + 4 * third) / 10.5
    assert_same(by_edits(parties, System(prior)), expected)
    without = by_parties(parties[1:], System(prior), MergeContext(parties=(1, 2)))
    assert_same(without, (3 * second + third) / 4)
    assert_order_of_parties_never_matters(by_edits, seed)
    assert_one_party_gets_its_own_delta(by_edits, seed)
    assert_equal_parties_get_their_delta(by_parties, seed)


def test_equal_weights_are_as_good_as_none() -> None:
    """To the last bit."""
    parties, system = draw_parties([1, 2, 4]), System(Prior(draw_prior()))
    weighed = SimpleAverageMerge(weights=(1.0, 1.0, 1.0))(parties, system)
    assert torch.equal(weighed, BY_PARTIES(parties, system))


@pytest.mark.parametrize(
    "weights", [(0.0, 0.0), (-1.0, 2.0), (float("nan"),), (float("inf"), 1.0)]
)
def test_weights_without_sense_are_refused(weights: tuple[float, ...]) -> None:
    """When the settings are read."""
    with pytest.raises(ValidationError, match="weights"):
        SimpleAverageMerge(weights=weights)


def test_weights_are_as_many_as_parties() -> None:
    """Which is known before anybody computes; no weights fit any number."""
    SimpleAverageMerge().check_parties(7)
    SimpleAverageMerge(weights=(1.0, 2.0)).check_parties(2)
    for count in (1, 3):
        with pytest.raises(InputError, match=f"2 entries for {count} parties"):
            SimpleAverageMerge(weights=(1.0, 2.0)).check_parties(count)


def test_a_party_without_a_weight_is_an_error_and_so_are_parties_without_votes() -> (
    None
):
    """The message counts from 0, as parties do."""
    parties, system = draw_parties([1, 2]), System(Prior(draw_prior()))
    merge = SimpleAverageMerge(weights=(0.0, 0.0, 1.0))
    with pytest.raises(InputError, match="is 0 for each party that is there: 0, 1"):
        merge(parties, system)
    with pytest.raises(InputError, match="3 entries and none for party 3"):
        merge(parties, system, MergeContext(parties=(2, 3)))
