"""Laws of singular values, against the general decomposition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.low_rank import decompose
from tests.laws import ALGEBRA, assert_same

SEEDS = st.integers(0, 2**16)
WIDTHS = st.integers(1, 7)
SINGULAR = 1e-7
"""Relative to the largest: what the smallest singular values are exact to."""


def draw(d_out: int, d_in: int, seed: int, rank: int | None = None) -> Tensor:
    """Draw a matrix, of a rank if one is given."""
    generator = torch.Generator().manual_seed(seed)
    rank = min(d_out, d_in) if rank is None else rank
    left = torch.randn(d_out, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, d_in, generator=generator, dtype=torch.float64)
    return left @ right


@given(d_out=WIDTHS, d_in=WIDTHS, seed=SEEDS)
def test_singular_values_are_those_of_the_general_decomposition(
    d_out: int, d_in: int, seed: int
) -> None:
    """Of wide, square and tall matrices."""
    matrix = draw(d_out, d_in, seed)
    ours, theirs = decompose(matrix).values, torch.linalg.svdvals(matrix)
    assert float((ours - theirs).abs().max()) <= SINGULAR * float(theirs[0])


@given(d_out=WIDTHS, d_in=WIDTHS, seed=SEEDS)
def test_all_factors_multiply_to_the_delta(d_out: int, d_in: int, seed: int) -> None:
    """``B A = Δ`` where nothing is left out, and the parts are orthogonal."""
    matrix = draw(d_out, d_in, seed)
    spectrum = decompose(matrix)
    up, down = spectrum.factors(min(d_out, d_in))
    assert_same(up @ down, matrix)
    assert_same(up.mT @ up, down @ down.mT, SINGULAR)


@given(d_out=WIDTHS, d_in=WIDTHS, rank=st.integers(0, 7), seed=SEEDS)
def test_the_truncation_misses_what_eckart_and_young_say(
    d_out: int, d_in: int, rank: int, seed: int
) -> None:
    """``‖Δ − B A‖ = (Σ_{i>r} s_i²)^½``, and no matrix of that rank comes closer."""
    matrix = draw(d_out, d_in, seed)
    spectrum = decompose(matrix)
    up, down = spectrum.factors(rank)
    size = float(matrix.norm())
    gap = float((matrix - up @ down).norm())
    best = float(torch.linalg.svdvals(matrix)[rank:].norm())
    assert gap == pytest.approx(best, abs=SINGULAR * size)
    assert spectrum.error(rank) == pytest.approx(best, abs=SINGULAR * size)


@given(d_out=WIDTHS, d_in=WIDTHS, seed=SEEDS)
def test_energy_grows_with_the_rank_from_nothing_to_all(
    d_out: int, d_in: int, seed: int
) -> None:
    """And what it leaves out is the error: ``1 − energy = error² / ‖Δ‖²``."""
    matrix = draw(d_out, d_in, seed)
    spectrum, size = decompose(matrix), float(matrix.norm())
    energies = [spectrum.energy(rank) for rank in range(min(d_out, d_in) + 1)]
    assert energies == sorted(energies)
    assert energies[0] == 0
    assert energies[-1] == pytest.approx(1, abs=ALGEBRA)
    for rank, energy in enumerate(energies):
        left_out = (spectrum.error(rank) / size) ** 2
        assert 1 - energy == pytest.approx(left_out, abs=ALGEBRA)


@given(rank=st.integers(0, 4), seed=SEEDS)
def test_edits_have_their_number_as_rank_even_in_single_precision(
    rank: int, seed: int
) -> None:
    """A file's rounding is not taken for singular values."""
    matrix = draw(12, 20, seed, rank)
    assert decompose(matrix).rank == rank
    assert decompose(matrix.float()).rank == rank


@given(share=st.floats(0, 1), seed=SEEDS)
def test_the_rank_for_a_share_is_the_smallest_that_holds_it(
    share: float, seed: int
) -> None:
    """One less would not."""
    spectrum = decompose(draw(5, 6, seed))
    rank = spectrum.rank_for(share)
    assert spectrum.energy(rank) >= share - ALGEBRA
    assert rank == 0 or spectrum.energy(rank - 1) < share


def test_a_delta_of_zeros_has_no_rank_and_all_its_energy() -> None:
    """Nothing is lost of nothing."""
    spectrum = decompose(torch.zeros(3, 4))
    assert (spectrum.rank, spectrum.energy(0), spectrum.rank_for(0.99)) == (0, 1.0, 0)
    up, down = spectrum.factors(1)
    assert up.shape == (3, 1)
    assert torch.equal(up @ down, torch.zeros(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_nothing_and_all(share: float) -> None:
    """Per cent would be a mistake."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        decompose(torch.eye(2)).rank_for(share)
