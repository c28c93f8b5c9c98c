"""Laws of Model Stock and of Karcher's mean."""

from itertools import combinations
from math import acos, sin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError
from editing.editors.system import System
from strategies.merges.base import MergeContext
from strategies.merges.geometric import KarcherMerge, ModelStockMerge
from tests.laws import (
    D_IN,
    D_OUT,
    assert_equal_parties_get_their_delta,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_pairs,
    draw_parties,
    draw_prior,
    draw_statistics,
)

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)
"""The merges have no cases; what is random is in all examples alike."""
STOCKS = [
    ModelStockMerge(angles=angles, clamp=clamp)
    for angles in ("layer", "row")
    for clamp in (True, False)
]
LONG = KarcherMerge(steps=100)


def draw_context(seed: int) -> MergeContext:
    """Draw a layer's weight."""
    weight, _ = draw_pairs(D_OUT, seed + 7)
    return MergeContext(weight=2 * weight)


def stock_of_vectors(vectors: list[Tensor], *, clamp: bool) -> Tensor:
    """Interpolate by the mean of the cosines of all pairs."""
    cosines = [
        float(one @ other / (one.norm() * other.norm()))
        for one, other in combinations(vectors, 2)
    ]
    count, cosine = len(vectors), sum(cosines) / len(cosines)
    share = count * cosine / (1 + (count - 1) * cosine)
    return (max(share, 0.0) if clamp else share) * sum(vectors) / count  # type: ignore[return-value]


@pytest.mark.parametrize("merge", STOCKS, ids=str)
@FEW
@given(seed=SEEDS)
def test_model_stock_is_its_definition(merge: ModelStockMerge, seed: int) -> None:
    """For the layer as a whole, and for each row alone."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    alone = [solve_delta(party, prior) for party in parties]
    if merge.angles == "layer":
        flat = stock_of_vectors([d.flatten() for d in alone], clamp=merge.clamp)
        expected = flat.reshape(alone[0].shape)
    else:
        rows = zip(*alone, strict=True)
        expected = torch.stack(
            [stock_of_vectors([*row], clamp=merge.clamp) for row in rows]
        )
    assert_same(merge(parties, System(prior)), expected)


@pytest.mark.parametrize("merge", STOCKS, ids=str)
@FEW
@given(seed=SEEDS)
def test_laws_of_model_stock(merge: ModelStockMerge, seed: int) -> None:
    """Parties have no order; one party, or equal ones, keep their delta."""
    assert_order_of_parties_never_matters(merge, seed)
    assert_one_party_gets_its_own_delta(merge, seed)
    assert_equal_parties_get_their_delta(merge, seed)


def test_deltas_that_point_apart_are_not_reversed() -> None:
    """Nor do opposite ones, or one of nothing, give what is no number."""
    party, prior = draw_statistics(3), System(Prior(draw_prior()))
    opposite = LayerStatistics.of_pairs(party.keys, -party.residuals)
    nothing = LayerStatistics.of_pairs(party.keys, 0 * party.residuals)
    weak = LayerStatistics.of_pairs(party.keys, -0.1 * party.residuals)
    for merge in (ModelStockMerge(), ModelStockMerge(angles="row")):
        for other in (opposite, nothing, weak):
            assert merge([party, other], prior).count_nonzero() == 0


def mean_by_steps(points: list[Tensor], steps: int) -> Tensor:
    """Walk to the mean of unit vectors in the whole space."""
    mean = torch.stack(points).mean(dim=0)
    mean /= mean.norm()
    for _ in range(steps):
        step = torch.zeros_like(mean)
        for point in points:
            angle = acos(min(float(mean @ point), 1.0))
            if angle > 0:
                step += angle / sin(angle) * (point - float(mean @ point) * mean)
        step /= len(points)
        mean = step.norm().cos() * mean + step.norm().sin() * step / step.norm()
    return mean


@FEW
@given(seed=SEEDS)
def test_karcher_is_its_definition(seed: int) -> None:
    """By walking on the sphere of whole weights, as many steps."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    context = draw_context(seed)
    weight = context.require_weight("")
    models = [(weight + solve_delta(party, prior)).flatten() for party in parties]
    unit = mean_by_steps([model / model.norm() for model in models], 4)
    length = sum(float(model.norm()) for model in models) / len(models)
    merged = KarcherMerge(steps=4)(parties, System(prior), context)
    assert_same(merged + weight, length * unit.reshape(weight.shape))


@FEW
@given(seed=SEEDS)
def test_no_party_pulls_the_mean_on_the_sphere(seed: int) -> None:
    """At the end the logarithms add up to 0; of two parties it is the middle."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    context = draw_context(seed)
    weight = context.require_weight("")
    merged = (LONG(parties, System(prior), context) + weight).flatten()
    unit, pull = merged / merged.norm(), torch.zeros(D_OUT * D_IN, dtype=torch.float64)
    for party in parties:
        model = (weight + solve_delta(party, prior)).flatten()
        model /= model.norm()
        angle = acos(min(float(unit @ model), 1.0))
        pull += angle / sin(angle) * (model - float(unit @ model) * unit)
    assert pull.norm() < 1e-8
    pair = (LONG(parties[:2], System(prior), context) + weight).flatten()
    first, second = [
        (weight + solve_delta(party, prior)).flatten() for party in parties[:2]
    ]
    middle = first / first.norm() + second / second.norm()
    assert_same(pair / pair.norm(), middle / middle.norm())
    assert_same(pair.norm(), (first.norm() + second.norm()) / 2)


@FEW
@given(seed=SEEDS)
def test_laws_of_karcher(seed: int) -> None:
    """Parties have no order; one party, or equal ones, keep their delta."""
    context = draw_context(seed)
    assert_order_of_parties_never_matters(LONG, seed, context)
    assert_one_party_gets_its_own_delta(LONG, seed, context)
    assert_equal_parties_get_their_delta(LONG, seed, context)


def test_karcher_wants_the_layers_weight() -> None:
    """Deltas alone have other angles than the weights that the parties would have."""
    parties, system = draw_parties([1, 2]), System(Prior(draw_prior()))
    with pytest.raises(InputError, match="`karcher` merges whole weights"):
        KarcherMerge()(parties, system)
