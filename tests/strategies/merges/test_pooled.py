"""Laws of the merge that pools: equal to editing on one machine."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.encodings import decode, encode
from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics, StatisticsError, pool
from editing.editors.system import System
from strategies.merges.average import SimpleAverageMerge
from strategies.merges.base import MergeContext
from strategies.merges.pooled import CollabEditDeltasMerge, CollabEditMerge
from tests.laws import (
    D_IN,
    D_OUT,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_pairs,
    draw_parties,
    draw_prior,
    relative_difference,
)

SEEDS = st.integers(0, 2**16)
MERGE = CollabEditMerge()


@given(seed=SEEDS)
def test_collabedit_is_its_definition(seed: int) -> None:
    """``(Σ RᵀK) (prior + Σ KᵀK)⁻¹``, inverse and all."""
    parties, prior = draw_parties([1, 2, 4], seed), Prior(draw_prior(seed))
    left, right = torch.zeros(D_OUT, D_IN), prior.matrix()
    for party in parties:
        left, right = left + party.cross, right + party.gram
    assert_same(CollabEditMerge()(parties, System(prior)), left @ right.inverse())


@given(cuts=st.sets(st.integers(1, 9)), seed=SEEDS)
def test_collabedit_equals_editing_at_one_party_on_any_split(
    cuts: set[int], seed: int
) -> None:
    """However ten edits are split, sizes included."""
    (keys, residuals), prior = draw_pairs(10, seed), Prior(draw_prior(seed))
    everything = [LayerStatistics.of_pairs(keys, residuals)]
    bounds = [0, *sorted(cuts), 10]
    parties = [
        LayerStatistics.of_pairs(keys[a:b], residuals[a:b]) for a, b in pairwise(bounds)
    ]
    ours = CollabEditMerge()(parties, System(prior))
    assert_same(ours, CollabEditMerge()(everything, System(prior)))
    assert_same(ours, solve_delta(everything[0], prior))


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=SEEDS)
def test_collabedit_equals_global_over_the_wire(sizes: list[int], seed: int) -> None:
    """With an edit repeated, and some parties sending factors and others matrices."""
    keys, residuals = draw_pairs(sum(sizes), seed)
    keys[-1] = keys[0]
    everything = LayerStatistics.of_pairs(keys, residuals)
    generator = torch.Generator().manual_seed(seed)
    parties = [
        encode(key, residual, "factors" if len(key) > 2 else "dense", generator)
        for key, residual in zip(
            torch.split(keys, sizes), torch.split(residuals, sizes), strict=True
        )
    ]
    received = [decode(party, D_IN, D_OUT) for party in parties]
    prior = Prior(draw_prior(seed))
    expected = CollabEditMerge()([everything], System(prior))
    assert_same(CollabEditMerge()(received, System(prior)), expected)


def test_only_the_sum_is_needed() -> None:
    """So the server may add replies as they arrive."""
    parties, prior = draw_parties([3, 1, 2]), Prior(draw_prior())
    assert MERGE.needs == "sum"
    assert_same(MERGE([pool(parties)], System(prior)), MERGE(parties, System(prior)))


@given(seed=SEEDS)
def test_laws_of_every_merge(seed: int) -> None:
    """Parties have no order, and one party is on its own."""
    assert_order_of_parties_never_matters(MERGE, seed)
    assert_one_party_gets_its_own_delta(MERGE, seed)


@given(seed=SEEDS)
def test_averaging_is_another_merge(seed: int) -> None:
    """The baseline that pooling exists to beat is far away."""
    parties, prior = draw_parties([2, 2, 2], seed), Prior(draw_prior(seed))
    pooled = CollabEditMerge()(parties, System(prior))
    average = SimpleAverageMerge()(parties, System(prior))
    assert relative_difference(average, pooled) > 0.1


def test_no_party_is_an_error() -> None:
    """Say what was needed."""
    with pytest.raises(StatisticsError, match="at least one party"):
        MERGE([], System(Prior(draw_prior())))


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=SEEDS)
def test_reading_deltas_back_is_pooling_for_memit(sizes: list[int], seed: int) -> None:
    """Whether a party has few edits or many."""
    parties, system = draw_parties(sizes, seed), System(Prior(draw_prior(seed), 2.0))
    assert_same(CollabEditDeltasMerge()(parties, system), MERGE(parties, system))


@given(seed=SEEDS)
def test_reading_deltas_of_another_editor_back_is_its_definition(seed: int) -> None:
    """``(Σ Δⱼ (A + Sⱼ)) (A + Σ Sⱼ)⁻¹``, which is not pooling."""
    parties, prior = draw_parties([2, 3], seed), Prior(draw_prior(seed), 2.0)
    basis = torch.linalg.qr(draw_prior(seed)).Q[:, :3]
    system = System(Prior(draw_prior(seed, 3)), basis)
    left, right = torch.zeros(D_OUT, D_IN, dtype=torch.float64), prior.matrix()
    for party in parties:
        left += system.solve(party) @ (prior.matrix() + party.gram)
        right += party.gram
    found = CollabEditDeltasMerge()(parties, system, MergeContext(prior=prior))
    assert_same(found, left @ right.inverse())
    assert relative_difference(found, MERGE(parties, system)) > 1e-3
