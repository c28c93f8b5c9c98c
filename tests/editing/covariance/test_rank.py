"""The rank of a mean of ``k kᵀ``, and the ridge where it is not full."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.covariance.rank import RIDGE, add_ridge, numerical_rank, ridge_of
from editing.covariance.sums import add_products
from tests.laws import assert_same


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


@given(tokens=st.integers(1, 19))
def test_a_ridge_is_a_share_of_the_mean_eigenvalue_and_none_at_full_rank(
    tokens: int,
) -> None:
    """With it, the moment is positive definite; without need, it is not touched."""
    whole = draw_moment(tokens + 20, 20)
    assert ridge_of(whole, 20) == 0
    assert add_ridge(whole, 0.0, 20, tokens + 20) is whole
    moment = draw_moment(tokens, 20)
    rank = numerical_rank(moment, tokens)
    ridge = ridge_of(moment, rank)
    raised = add_ridge(moment, ridge, rank, tokens)
    values = torch.linalg.eigvalsh(moment)
    assert ridge == pytest.approx(RIDGE * float(values.mean()))
    expected = moment + ridge * torch.eye(20, dtype=torch.float64)
    assert torch.equal(raised, expected)
    assert int(torch.linalg.cholesky_ex(raised).info) == 0


@pytest.mark.parametrize("rank", [1, 7, 19])
def test_a_long_text_s_ridge_is_on_what_no_token_used_alone(rank: int) -> None:
    """What was seen keeps its moment; what was not counts as the ridge."""
    drawn = draw_moment(500, 20, rank)
    moment = (drawn + drawn.mT) / 2
    ridge = ridge_of(moment, rank)
    raised = add_ridge(moment, ridge, rank, 500)
    basis, _ = torch.linalg.qr(moment[:, :rank])
    other = torch.eye(20, dtype=torch.float64) - basis @ basis.mT
    assert_same(raised @ basis, moment @ basis)
    assert_same(other @ raised @ other, ridge * other)
    assert torch.equal(raised, raised.mT)
    assert int(torch.linalg.cholesky_ex(raised).info) == 0


@pytest.mark.parametrize("silent", [[3], [0, 1, 19], list(range(10))])
def test_neurons_that_never_fire_leave_the_others_to_the_last_bit(
    silent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by their zeros: no eigenvector is computed, nor an eigenvalue."""

    def refuse(*_: object) -> None:
        raise AssertionError("decomposed")

    for name in ("eigh", "eigvalsh"):
        monkeypatch.setattr(torch.linalg, name, refuse)
    moment = draw_moment(500, 20)
    moment[silent] = moment[:, silent] = 0
    rank = numerical_rank(moment, 500)
    assert rank == 20 - len(silent)
    ridge = ridge_of(moment, rank)
    expected = moment.clone()
    expected[silent, silent] = ridge
    assert ridge > 0
    assert torch.equal(add_ridge(moment, ridge, rank, 500), expected)


def test_neurons_that_never_fire_do_not_hide_other_directions() -> None:
    """Those that are missing among the others are found and raised as well."""
    moment = draw_moment(500, 20, 15)
    moment[4] = moment[:, 4] = 0
    rank = numerical_rank(moment, 500)
    assert rank == int(torch.linalg.matrix_rank(moment, hermitian=True)) == 15
    ridge = ridge_of(moment, rank)
    raised = add_ridge(moment, ridge, rank, 500)
    assert_same(raised[4], ridge * torch.eye(20, dtype=torch.float64)[4])
    values = torch.linalg.eigvalsh(raised)
    assert int((values - ridge).abs().lt(1e-9 * ridge).sum()) == 5
