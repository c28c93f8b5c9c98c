"""Laws of SCE: select, calculate, erase."""

from math import ceil
from statistics import pvariance

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.editors.system import System
from strategies.merges.sce import SceMerge
from tests.laws import (
    assert_equal_parties_get_their_delta,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_parties,
    draw_prior,
)

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)
"""The merges have no cases; what is random is in all examples alike."""
SHARES = st.sampled_from([0.01, 0.3, 0.8, 1.0])


def merge_by_loops(deltas: list[Tensor], select: float) -> Tensor:
    """Select, calculate and erase one entry at a time."""
    entries = list(zip(*(delta.flatten().tolist() for delta in deltas), strict=True))
    places = sorted(range(len(entries)), key=lambda place: -pvariance(entries[place]))
    selected = places[: ceil(select * len(entries))]
    weights = [
        sum(entries[place][party] ** 2 for place in selected)
        for party in range(len(deltas))
    ]
    merged = torch.zeros(len(entries), dtype=torch.float64)
    for place in selected:
        sign = 1 if sum(entries[place]) > 0 else -1
        agreeing = [
            (weight, entry)
            for weight, entry in zip(weights, entries[place], strict=True)
            if entry * sign > 0
        ]
        total = sum(weight * entry for weight, entry in agreeing)
        merged[place] = total / sum(weight for weight, _ in agreeing)
    return merged.reshape(deltas[0].shape)


@FEW
@given(select=SHARES, seed=SEEDS)
def test_sce_is_its_definition(select: float, seed: int) -> None:
    """Four parties of different sizes, so that signs disagree."""
    parties, prior = draw_parties([1, 2, 4, 3], seed), Prior(draw_prior(seed))
    alone = [solve_delta(party, prior) for party in parties]
    merged = SceMerge(select=select)(parties, System(prior))
    assert_same(merged, merge_by_loops(alone, select))


@pytest.mark.parametrize("select", [0.1, 1.0])
@FEW
@given(seed=SEEDS)
def test_laws_of_every_merge(select: float, seed: int) -> None:
    """Parties have no order; where none differ, all entries are selected."""
    merge = SceMerge(select=select)
    assert_order_of_parties_never_matters(merge, seed)
    assert_one_party_gets_its_own_delta(merge, seed)
    assert_equal_parties_get_their_delta(merge, seed)


def test_parties_that_change_nothing_merge_to_nothing() -> None:
    """And not to a division by 0."""
    parties, prior = draw_parties([2, 2]), Prior(draw_prior())
    still = [type(each)(each.keys, 0 * each.residuals, each.count) for each in parties]
    assert SceMerge()(still, System(prior)).count_nonzero() == 0
