"""Laws of DARE and DELLA: entries dropped at random."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.editors.system import System
from strategies.merges.base import MergeContext
from strategies.merges.dropping import (
    DareMerge,
    DellaMerge,
    DroppingMerge,
    Rescale,
    apply_mask,
)
from tests.laws import (
    D_IN,
    assert_equal_parties_get_their_delta,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_pairs,
    draw_parties,
    draw_prior,
)

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)
"""The merges have no cases; what is random is in all examples alike."""
MERGES = [DareMerge(density=0.4), DellaMerge(density=0.4, spread=0.6, fusion="sum")]
EVERYTHING = [DareMerge(density=1.0), DellaMerge(density=1.0, spread=0.0)]


def likelihoods(delta: Tensor, density: float, spread: float) -> Tensor:
    """Rank each row by sorting, from 0, and spread the probabilities evenly."""
    keep = torch.empty_like(delta)
    for row, entries in enumerate(delta.abs().tolist()):
        for column, entry in enumerate(entries):
            rank = sum(other < entry for other in entries)
            step = spread / (len(entries) - 1)
            keep[row, column] = density - spread / 2 + step * rank
    return keep


@FEW
@given(seed=SEEDS)
def test_small_entries_are_kept_with_small_probabilities(seed: int) -> None:
    """Row by row, with the density as their mean."""
    delta, _ = draw_pairs(6, seed)
    keep = DellaMerge(density=0.4, spread=0.6).keep_probability(delta)
    assert_same(keep, likelihoods(delta, 0.4, 0.6))
    assert_same(keep.mean(dim=1), torch.full((6,), 0.4, dtype=torch.float64))


@pytest.mark.parametrize("merge", MERGES, ids=lambda merge: merge.name)
@FEW
@given(seed=SEEDS)
def test_each_entry_is_dropped_or_divided_by_its_probability(
    merge: DroppingMerge, seed: int
) -> None:
    """Of one party; a merge that sums is the sum of what single parties come to."""
    parties, prior = draw_parties([2, 1, 3], seed), Prior(draw_prior(seed))
    alone = []
    for number, party in enumerate(parties):
        context = MergeContext(seed=seed, parties=(number,))
        kept = merge([party], System(prior), context)
        delta = solve_delta(party, prior)
        chance = likelihoods(delta, 0.4, 0.6 if merge.name == "della" else 0.0)
        assert_same(kept, torch.where(kept == 0, 0, delta / chance))
        alone.append(kept)
    together = merge(parties, System(prior), MergeContext(seed=seed))
    assert_same(together, torch.stack(alone).sum(dim=0))


@pytest.mark.parametrize("merge", MERGES, ids=lambda merge: merge.name)
def test_on_average_over_seeds_nothing_is_lost(merge: DroppingMerge) -> None:
    """Which is what the division is for; within five standard errors."""
    (party,), prior = draw_parties([3]), Prior(draw_prior())
    draws = torch.stack(
        [merge([party], System(prior), MergeContext(seed=s)) for s in range(600)]
    )
    delta = solve_delta(party, prior)
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert bool(((draws.mean(dim=0) - delta).abs() < 5 * error).all())


def test_masks_are_those_of_seed_round_layer_and_party() -> None:
    """The same again, and others elsewhere."""
    (party,), prior = draw_parties([3]), Prior(draw_prior())
    places = [
        MergeContext(),
        MergeContext(layer=1),
        MergeContext(round=2),
        MergeContext(seed=1),
        MergeContext(parties=(1,)),
    ]
    merge = DareMerge(density=0.5)
    kept = [merge([party], System(prior), place) != 0 for place in places]
    again = merge([party], System(prior), places[0]) != 0
    assert torch.equal(kept[0], again)
    assert all(not torch.equal(kept[0], other) for other in kept[1:])


@FEW
@given(seed=SEEDS, density=st.sampled_from([0.3, 1.0]))
def test_without_spread_entries_are_dropped_alike(seed: int, density: float) -> None:
    """DELLA is then DARE."""
    parties, system = draw_parties([1, 2], seed), System(Prior(draw_prior(seed)))
    della = DellaMerge(density=density, spread=0.0, fusion="sum")
    assert_same(della(parties, system), DareMerge(density=density)(parties, system))


@pytest.mark.parametrize("rescale", ["l1", "none"])
def test_entries_can_make_up_by_size_or_not_at_all(rescale: Rescale) -> None:
    """And a mask without any entry leaves none."""
    delta, _ = draw_pairs(3)
    mask = torch.arange(3 * D_IN).reshape(3, D_IN) % 2 == 0
    keep = torch.full((1, 1), 0.5, dtype=torch.float64)
    kept = apply_mask(delta, mask, keep, rescale)
    size = delta.abs().sum() if rescale == "l1" else (delta * mask).abs().sum()
    assert_same(kept.abs().sum(), size)
    assert bool((kept[~mask] == 0).all())
    assert apply_mask(delta, mask & ~mask, keep, rescale).count_nonzero() == 0


@FEW
@given(seed=SEEDS)
def test_laws_of_every_merge(seed: int) -> None:
    """Parties have no order; where nothing is dropped, one is on its own."""
    for merge in MERGES:
        assert_order_of_parties_never_matters(merge, seed)
    for merge in EVERYTHING:
        assert_one_party_gets_its_own_delta(merge, seed)
    assert_equal_parties_get_their_delta(EVERYTHING[1], seed)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"density": 0.0}, "density"),
        ({"density": 0.9, "spread": 0.3}, "0.75 to 1.05; .* lower the spread"),
        ({"density": 0.1, "spread": 0.2}, "0 to 0.2; .* lower the spread"),
        ({"rescale": "l2"}, "rescale"),
    ],
)
def test_settings_without_sense_are_refused(
    table: dict[str, object], message: str
) -> None:
    """When the settings are read."""
    with pytest.raises(ValidationError, match=message):
        DellaMerge.model_validate(table)
