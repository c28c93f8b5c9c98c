"""Laws of TIES."""

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.editors.system import System
from strategies.merges.ties import TiesMerge, trim
from tests.laws import (
    assert_equal_parties_get_their_delta,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_parties,
    draw_prior,
)

SEEDS = st.integers(0, 2**16)
DENSITIES = st.sampled_from([0.01, 0.2, 0.5, 1.0])
PLAIN = TiesMerge(density=1.0, scale=1.0)


def trim_by_sorting(delta: Tensor, density: float) -> dict[tuple[int, int], float]:
    """Name the entries that one party keeps, largest first."""
    entries = {
        (row, column): delta[row, column].item()
        for row in range(delta.shape[0])
        for column in range(delta.shape[1])
    }
    ranked = sorted(entries, key=lambda place: -abs(entries[place]))
    return {place: entries[place] for place in ranked[: ceil(density * len(ranked))]}


def merge_by_loops(deltas: list[Tensor], density: float, scale: float) -> Tensor:
    """Trim, elect, average: TIES one entry at a time."""
    kept = [trim_by_sorting(delta, density) for delta in deltas]
    merged = torch.zeros_like(deltas[0])
    for place in {place for entries in kept for place in entries}:
        votes = [entries[place] for entries in kept if place in entries]
        positive = sum(vote for vote in votes if vote > 0)
        negative = -sum(vote for vote in votes if vote < 0)
        if positive > negative:
            agreeing = [vote for vote in votes if vote > 0]
        else:
            agreeing = [vote for vote in votes if vote < 0]
        merged[place] = scale * sum(agreeing) / len(agreeing)
    return merged


@given(density=DENSITIES, scale=st.floats(0.1, 2), seed=SEEDS)
def test_ties_is_its_definition(density: float, scale: float, seed: int) -> None:
    """Four parties of different sizes, so that signs disagree."""
    parties, prior = draw_parties([1, 2, 4, 3], seed), Prior(draw_prior(seed))
    merged = TiesMerge(density=density, scale=scale)(parties, System(prior))
    alone = [solve_delta(party, prior) for party in parties]
    assert_same(merged, merge_by_loops(alone, density, scale))


@pytest.mark.parametrize(
    ("density", "kept"), [(0.01, 1), (0.2, 3), (0.25, 4), (0.5, 8), (1.0, 15)]
)
def test_a_share_is_rounded_up(density: float, kept: int) -> None:
    """Of fifteen entries; one is always left."""
    delta = torch.arange(1.0, 16.0, dtype=torch.float64).reshape(3, 5)
    assert trim(-delta, density).count_nonzero() == kept


def test_equal_magnitudes_are_kept_or_dropped_together() -> None:
    """Sorting must not choose between them."""
    delta = torch.tensor([[1.0, -2.0, 2.0, 2.0, 0.5]], dtype=torch.float64)
    expected = torch.tensor([[0.0, -2.0, 2.0, 2.0, 0.0]], dtype=torch.float64)
    assert torch.equal(trim(delta, 0.2), expected)


def test_each_party_is_trimmed_by_itself() -> None:
    """A party that writes little keeps as many entries as one that writes much."""
    small = torch.arange(1.0, 11.0, dtype=torch.float64).reshape(2, 5)
    kept = [trim(scale * small, 0.3).count_nonzero() for scale in (1, 1000)]
    assert kept == [3, 3]


@given(density=DENSITIES, seed=SEEDS)
def test_laws_of_every_merge(density: float, seed: int) -> None:
    """Parties have no order; unscaled and untrimmed, one party is on its own."""
    assert_order_of_parties_never_matters(TiesMerge(density=density), seed)
    assert_one_party_gets_its_own_delta(PLAIN, seed)
    assert_equal_parties_get_their_delta(PLAIN, seed)


def test_defaults_are_those_of_the_published_comparison() -> None:
    """Keep a fifth, scale by two fifths."""
    parties, system = draw_parties([2, 3]), System(Prior(draw_prior()))
    explicit = TiesMerge(density=0.2, scale=0.4)
    assert torch.equal(TiesMerge()(parties, system), explicit(parties, system))


@pytest.mark.parametrize(
    ("field", "value"),
    [("density", 0.0), ("density", 1.01), ("density", float("nan")), ("scale", 0.0)],
)
def test_settings_without_sense_are_refused(field: str, value: float) -> None:
    """When the settings are read, not in round three."""
    with pytest.raises(ValidationError, match=field):
        TiesMerge.model_validate({field: value})


@settings(max_examples=12)
@given(density=DENSITIES, seed=SEEDS)
def test_entries_can_be_added_instead_of_averaged(density: float, seed: int) -> None:
    """All of them, or those whose sign wins."""
    parties, prior = draw_parties([1, 2, 4, 3], seed), Prior(draw_prior(seed))
    kept = torch.stack([trim(solve_delta(each, prior), density) for each in parties])
    wins = kept * (kept.sign() == kept.sum(dim=0).sign())
    for fusion, added in (("sum", kept), ("agreeing-sum", wins)):
        merge = TiesMerge(density=density, scale=0.6, fusion=fusion)
        assert_same(merge(parties, System(prior)), 0.6 * added.sum(dim=0))
