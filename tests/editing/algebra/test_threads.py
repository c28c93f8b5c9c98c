"""Narrow matrices take one thread, and give it back."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.threads import NARROW, threads_for
from tests.laws import draw_prior, draw_statistics


@pytest.fixture
def many() -> Iterator[int]:
    """Set three threads, as if the machine had as many."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@pytest.mark.parametrize(("width", "taken"), [(1, 1), (NARROW - 1, 1), (NARROW, 3)])
def test_narrow_matrices_take_one_thread(many: int, width: int, taken: int) -> None:
    """And wide ones all there are."""
    with threads_for(width):
        assert torch.get_num_threads() == taken
    assert torch.get_num_threads() == many


def test_threads_are_given_back_after_an_error(many: int) -> None:
    """The next matrix may be wide."""
    with pytest.raises(RuntimeError, match="lost"), threads_for(5):
        raise RuntimeError("lost")
    assert torch.get_num_threads() == many


def test_a_narrow_solve_takes_one_thread(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its bits do not depend on how many there are."""
    taken: list[int] = []
    factorise = torch.linalg.cholesky_ex

    def note(matrix: Tensor) -> tuple[Tensor, Tensor]:
        taken.append(torch.get_num_threads())
        factor, info = factorise(matrix)
        return factor, info

    monkeypatch.setattr(torch.linalg, "cholesky_ex", note)
    for statistics in (draw_statistics(1), draw_statistics(4)):
        solve_delta(statistics, Prior(draw_prior()))
    assert taken
    assert set(taken) == {1}
    assert torch.get_num_threads() == many
