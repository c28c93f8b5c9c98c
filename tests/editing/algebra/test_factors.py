"""Factors give their delta, and the same bits in whichever order they are summed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.factors import TOLERANCE, Factors, factorise_delta
from tests.laws import assert_same

SEEDS = st.integers(0, 2**16)
D_OUT, D_IN = 40, 90


def delta_of(rank: int, seed: int, scale: float = 1.0) -> Tensor:
    """Draw a delta whose singular values are several powers of ten apart."""
    drawn = torch.Generator().manual_seed(seed)
    left = torch.randn(D_OUT, rank, generator=drawn, dtype=torch.float64)
    right = torch.randn(rank, D_IN, generator=drawn, dtype=torch.float64)
    return scale * left @ (right * torch.logspace(0, -4, rank)[:, None])


@given(rank=st.integers(1, 20), seed=SEEDS, power=st.integers(-30, 30))
def test_the_product_is_the_delta_to_rounding(rank: int, seed: int, power: int) -> None:
    """Whatever its scale; the bound of the rank may be higher than the rank."""
    delta = delta_of(rank, seed, 2.0**power)
    found = factorise_delta(delta, min(rank + 3, 20))
    assert found is not None
    assert found.rank <= rank
    assert_same(found.product(), delta, TOLERANCE)
    assert {found.left.dtype, found.right.dtype} == {torch.float32}


@given(rank=st.integers(1, 20), seed=SEEDS, power=st.integers(-30, 30))
def test_the_product_has_the_same_bits_in_any_order(
    rank: int, seed: int, power: int
) -> None:
    """Machines and threads sum in orders of their own; here one term at a time."""
    found = factorise_delta(delta_of(rank, seed, 2.0**power), rank)
    assert found is not None
    drawn = torch.Generator().manual_seed(seed)
    order = torch.randperm(found.rank, generator=drawn)
    shuffled = Factors(found.left[:, order], found.right[order]).product()
    assert torch.equal(shuffled, found.product())
    one_by_one = torch.zeros(D_OUT, D_IN, dtype=torch.float64)
    for place in order:
        row = found.right[place].double()
        one_by_one += found.left[:, place].double()[:, None] * row
    assert_same(one_by_one, found.product(), 1e-15)


@given(rank=st.integers(1, 20), seed=SEEDS)
def test_sums_of_a_product_are_whole_multiples_that_float64_holds(
    rank: int, seed: int
) -> None:
    """In exact whole numbers, by Python's own."""
    found = factorise_delta(delta_of(rank, seed), rank)
    assert found is not None
    product, unit = found.product(), 2**80
    for row, column in ((0, 0), (D_OUT - 1, D_IN - 1), (3, 7)):
        left = [int(each * unit) for each in found.left[row].tolist()]
        right = [int(each * unit) for each in found.right[:, column].tolist()]
        exact = sum(a * b for a, b in zip(left, right, strict=True))
        assert float(product[row, column]) == exact / unit**2


def test_columns_of_zero_stay_zero() -> None:
    """A neuron that never fires has no update."""
    delta = delta_of(2, 0)
    delta[:, 5] = 0
    found = factorise_delta(delta, 2)
    assert found is not None
    assert found.product()[:, 5].abs().max() == 0
    nothing = factorise_delta(torch.zeros_like(delta), 2)
    assert nothing is not None
    assert nothing.product().abs().max() == 0


@pytest.mark.parametrize(("rank", "bound"), [(40, 20), (21, 20), (2, 28)])
def test_a_delta_of_a_higher_rank_or_no_fewer_numbers_has_no_factors(
    rank: int, bound: int
) -> None:
    """`ties` trims entries, which leaves no low rank."""
    drawn = torch.Generator().manual_seed(0)
    left = torch.randn(D_OUT, rank, generator=drawn, dtype=torch.float64)
    right = torch.randn(rank, D_IN, generator=drawn, dtype=torch.float64)
    found = factorise_delta(left @ right, bound)
    if bound * (D_OUT + D_IN) >= D_OUT * D_IN or rank > bound + 8:
        assert found is None
