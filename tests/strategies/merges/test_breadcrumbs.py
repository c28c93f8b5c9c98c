"""Laws of Model Breadcrumbs."""

from math import ceil, floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.editors.system import System
from strategies.merges.breadcrumbs import BreadcrumbsMerge, trim_both_ends
from strategies.merges.task_arithmetic import TaskArithmeticMerge
from tests.laws import (
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_parties,
    draw_prior,
)

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)
"""The merges have no cases; what is random is in all examples alike."""


def trim_by_sorting(delta: Tensor, density: float, outliers: float) -> Tensor:
    """Drop so many of the sorted entries, then keep so many."""
    places = sorted(range(delta.numel()), key=lambda i: -abs(delta.flatten()[i].item()))
    dropped, kept = floor(outliers * len(places)), ceil(density * len(places))
    trimmed = torch.zeros(delta.numel(), dtype=delta.dtype)
    for place in places[dropped : dropped + kept]:
        trimmed[place] = delta.flatten()[place]
    return trimmed.reshape(delta.shape)


@FEW
@given(
    density=st.sampled_from([0.01, 0.2, 0.6, 1.0]),
    outliers=st.sampled_from([0.0, 0.05, 0.2, 0.9]),
    seed=SEEDS,
)
def test_breadcrumbs_are_the_sum_of_trimmed_deltas(
    density: float, outliers: float, seed: int
) -> None:
    """Each party is trimmed by itself."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    merge = BreadcrumbsMerge(density=density, outliers=outliers, scale=0.7)
    trimmed = [
        trim_by_sorting(solve_delta(party, prior), density, outliers)
        for party in parties
    ]
    expected = 0.7 * torch.stack(trimmed).sum(dim=0)
    assert_same(merge(parties, System(prior)), expected)


@FEW
@given(seed=SEEDS)
def test_laws_of_every_merge(seed: int) -> None:
    """Parties have no order; untrimmed, the merge is the sum."""
    assert_order_of_parties_never_matters(BreadcrumbsMerge(outliers=0.1), seed)
    whole = BreadcrumbsMerge(density=1.0, outliers=0.0)
    assert_one_party_gets_its_own_delta(whole, seed)
    parties, system = draw_parties([1, 3], seed), System(Prior(draw_prior(seed)))
    assert_same(whole(parties, system), TaskArithmeticMerge()(parties, system))


@pytest.mark.parametrize("outliers", [0.0, 0.34, 0.67, 0.99])
def test_one_entry_is_always_left(outliers: float) -> None:
    """However small the shares are; equal entries are kept together."""
    delta = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    assert trim_both_ends(delta, 0.01, outliers).count_nonzero() == 1
    same = torch.tensor([[2.0, -2.0, 2.0]], dtype=torch.float64)
    assert torch.equal(trim_both_ends(same, 0.01, outliers), same)
