"""Moments add up: those of two parties are those of their union."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.statistics import StatisticsError
from editing.answers.moments import Moments, pool_moments, sum_moments
from editing.answers.pairs import AnswerPairs
from tests.laws import D_IN, D_OUT, assert_same, draw_pairs


def cut(pairs: AnswerPairs, places: list[int]) -> list[AnswerPairs]:
    """Give each party consecutive rows; some may get none."""
    rows = [0, *sorted(places), len(pairs.keys)]
    return [
        AnswerPairs(pairs.keys[start:end], pairs.gradients[start:end])
        for start, end in pairwise(rows)
    ]


def naive(pairs: AnswerPairs) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation, and scatter of the gradients."""
    rows = torch.cat([pairs.keys, pairs.gradients], dim=1)
    centred = pairs.gradients - pairs.gradients.mean(dim=0)
    return rows.mean(dim=0), rows.std(dim=0), centred.mT @ centred


@given(
    rows=st.integers(2, 12),
    places=st.lists(st.integers(0, 12), max_size=4),
    seed=st.integers(0, 2**16),
)
def test_moments_of_parties_add_up_to_those_of_their_union(
    rows: int, places: list[int], seed: int
) -> None:
    """Every field, and what is read from them; empty parties allowed."""
    pairs = AnswerPairs(*draw_pairs(rows, seed))
    parts = cut(pairs, [min(place, rows) for place in places])
    pooled = Moments.zero((D_OUT, D_IN), products=True)
    for part in parts:
        pooled += Moments.of_pairs(part, products=True)
    mean, std, scatter = naive(pairs)
    assert pooled.count == rows
    assert_same(pooled.total, rows * mean)
    assert_same(pooled.mean, mean)
    assert_same(pooled.std, std)
    assert_same(pooled.scatter, scatter)


def test_layers_of_a_shape_share_their_moments() -> None:
    """And those of another shape have their own."""
    first, second = (AnswerPairs(*draw_pairs(4, seed)) for seed in (1, 2))
    other = AnswerPairs(*draw_pairs(3, 3, d_in=7))
    found = sum_moments({1: first, 2: other, 5: second})
    assert list(found) == [(D_OUT, D_IN), (D_OUT, 7)]
    both = AnswerPairs(
        torch.cat([first.keys, second.keys]),
        torch.cat([first.gradients, second.gradients]),
    )
    assert_same(found[D_OUT, D_IN].std, Moments.of_pairs(both).std)
    assert_same(found[D_OUT, 7].mean, Moments.of_pairs(other).mean)
    assert pool_moments([found, {}]) == found


def test_moments_of_other_layers_are_refused() -> None:
    """Other widths, or outer products on one side alone."""
    own = Moments.zero((3, 5))
    for other in (Moments.zero((3, 6)), Moments.zero((3, 5), products=True)):
        with pytest.raises(StatisticsError, match="Cannot pool moments"):
            _ = own + other
    with pytest.raises(StatisticsError, match="Cannot pool moments"):
        _ = Moments.zero((3, 5), products=True) + Moments.zero((5, 3), products=True)
