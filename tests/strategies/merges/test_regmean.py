"""Laws of RegMean."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.editors.system import System
from strategies.merges.regmean import RegmeanMerge
from tests.laws import (
    assert_equal_parties_get_their_delta,
    assert_one_party_gets_its_own_delta,
    assert_order_of_parties_never_matters,
    assert_same,
    draw_parties,
    draw_prior,
    draw_statistics,
)

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12)
"""The merges have no cases; what is random is in all examples alike."""
FACTORS = [0.0, 0.9, 1.0]


def merge_by_definition(
    parties: list[LayerStatistics], prior: Tensor, factor: float
) -> Tensor:
    """Form every party's gram, scale it off the diagonal, and fit."""
    grams = []
    for party in parties:
        gram = party.gram + prior / len(parties)
        grams.append(factor * gram + (1 - factor) * torch.diag(gram.diagonal()))
    deltas = [solve_delta(party, Prior(prior)) for party in parties]
    wanted = sum(delta @ gram for delta, gram in zip(deltas, grams, strict=True))
    assert isinstance(wanted, Tensor)
    total = torch.stack(grams).sum(dim=0)
    merged: Tensor = torch.linalg.solve(total, wanted, left=False)
    return merged


@pytest.mark.parametrize("factor", FACTORS)
@FEW
@given(seed=SEEDS)
def test_regmean_is_its_definition(factor: float, seed: int) -> None:
    """Whether parties send rows or sums."""
    parties, prior = draw_parties([1, 2, 4], seed), draw_prior(seed)
    sums = [LayerStatistics.of_sums(p.gram, p.cross, p.count) for p in parties]
    expected = merge_by_definition(parties, prior, factor)
    for given_as in (parties, sums, [parties[0], sums[1], parties[2]]):
        merged = RegmeanMerge(off_diagonal=factor)(given_as, System(Prior(prior)))
        assert_same(merged, expected)


@FEW
@given(seed=SEEDS)
def test_in_a_basis_the_inputs_are_those_of_the_basis(seed: int) -> None:
    """An editor that writes in some directions alone gets those of all parties."""
    parties, width = draw_parties([1, 2, 4], seed), 3
    basis = torch.linalg.qr(draw_prior(seed + 1))[0][:, :width].contiguous()
    prior = draw_prior(seed, width)
    inner = [LayerStatistics.of_pairs(p.keys @ basis, p.residuals) for p in parties]
    expected = merge_by_definition(inner, prior, 0.9) @ basis.mT
    assert_same(RegmeanMerge()(parties, System(Prior(prior), basis)), expected)


@pytest.mark.parametrize("factor", FACTORS)
@FEW
@given(seed=SEEDS)
def test_laws_of_every_merge(factor: float, seed: int) -> None:
    """Parties have no order; one party, or equal ones, keep their delta."""
    merge = RegmeanMerge(off_diagonal=factor)
    assert_order_of_parties_never_matters(merge, seed)
    assert_one_party_gets_its_own_delta(merge, seed)
    assert_equal_parties_get_their_delta(merge, seed)


def test_statistics_are_left_as_they_were() -> None:
    """Other merges of a comparison read them too."""
    party = draw_statistics(3)
    sums = LayerStatistics.of_sums(party.gram, party.cross, party.count)
    gram = sums.gram.clone()
    RegmeanMerge()([sums, party], System(Prior(draw_prior())))
    assert torch.equal(sums.gram, gram)
