"""The rank of a mean of ``k kᵀ``, and the ridge where it is not full."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.moment_ranks import RIDGE, add_ridge, numerical_rank, ridge_of
from editing.moment_sums import add_products


def draw_moment(tokens: int, width: int, rank: int | None = None) -> Tensor:
    """Average outer products of keys that lie in a space of some rank."""
    generator = torch.Generator().manual_seed(tokens * 100 + width)
    spread = torch.logspace(0, -4, width, dtype=torch.float64)
    keys = torch.randn(tokens, width, generator=generator, dtype=torch.float64) * spread
    if rank is not None:
        basis = torch.randn(rank, width, generator=generator, dtype=torch.float64)
        keys = keys[:, :rank] @ basis
    return keys.mT @ keys / tokens


@given(tokens=st.integers(1, 60), width=st.integers(2, 30))
def test_few_tokens_have_a_rank_of_their_number(tokens: int, width: int) -> None:
    """And many, of the width."""
    rank = numerical_rank(draw_moment(tokens, width), tokens)
    assert rank == min(tokens, width)


@pytest.mark.parametrize("rank", [1, 7, 19])
def test_many_tokens_in_few_directions_have_the_rank_of_these(rank: int) -> None:
    """As NumPy's ``matrix_rank`` finds it, too."""
    moment = draw_moment(500, 20, rank)
    assert numerical_rank(moment, 500) == rank
    assert int(torch.linalg.matrix_rank(moment, hermitian=True)) == rank


@pytest.mark.parametrize(("tokens", "rank"), [(2000, 40), (2000, 25), (10, 10)])
def test_rounding_of_single_precision_products_is_no_rank(
    tokens: int, rank: int
) -> None:
    """Nor does it hide directions that keys have seen."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(rank, 40, generator=generator)
    keys = torch.randn(tokens, rank, generator=generator) @ basis
    total = torch.zeros(40, 40, dtype=torch.float64)
    add_products(total, keys, torch.float32)
    assert numerical_rank(total / tokens, tokens, single=True) == rank


def test_a_moment_of_zeros_has_no_rank() -> None:
    """Nor a ridge that would be a number."""
    zeros = torch.zeros(3, 3, dtype=torch.float64)
    assert numerical_rank(zeros, 10) == 0
    assert ridge_of(zeros, 0) == 0.0


@given(tokens=st.integers(1, 40))
def test_a_ridge_is_a_share_of_the_mean_eigenvalue_and_none_at_full_rank(
    tokens: int,
) -> None:
    """With it, the moment is positive definite; without need, it is not touched."""
    moment = draw_moment(tokens, 20)
    rank = numerical_rank(moment, tokens)
    ridge = ridge_of(moment, rank)
    raised = add_ridge(moment, ridge)
    if rank == 20:
        assert raised is moment
        assert ridge == 0
        return
    values = torch.linalg.eigvalsh(moment)
    assert ridge == pytest.approx(RIDGE * float(values.mean()))
    expected = moment + ridge * torch.eye(20, dtype=torch.float64)
    assert torch.equal(raised, expected)
    assert int(torch.linalg.cholesky_ex(raised).info) == 0
