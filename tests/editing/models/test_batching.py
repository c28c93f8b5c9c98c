"""Batches shrink until they fit."""

from collections.abc import Callable, Sequence

import pytest
import torch

from editing.models.batching import is_out_of_memory, run_batches


def limited(
    most: int, error: type[Exception]
) -> tuple[list[int], Callable[[Sequence[int]], list[int]]]:
    """Make a function that can hold so many items, and a list of what it was given."""
    sizes: list[int] = []

    def run(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > most:
            raise error
        return [2 * item for item in batch]

    return sizes, run


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("count", [0, 1, 7, 16, 33])
@pytest.mark.parametrize("most", [1, 2, 3, 5, 40])
def test_all_items_are_run_once_in_order(
    error: type[Exception], count: int, most: int
) -> None:
    """Whatever fits, the results are those of one large batch."""
    _, run = limited(most, error)
    done = list(run_batches(range(count), 16, run))
    assert [item for batch, _ in done for item in batch] == list(range(count))
    assert [each for _, found in done for each in found] == [
        2 * item for item in range(count)
    ]
    assert all(len(batch) <= most for batch, _ in done)


def test_a_size_that_did_not_fit_is_not_tried_again() -> None:
    """16 and 8 fail once, then all go in fours."""
    sizes, run = limited(5, MemoryError)
    list(run_batches(range(20), 16, run))
    assert sizes == [16, 8, 4, 4, 4, 4, 4]


def test_an_item_that_does_not_fit_is_an_error() -> None:
    """It says what to change."""
    _, run = limited(0, MemoryError)
    with pytest.raises(MemoryError, match=r"model\.dtype"):
        list(run_batches(range(3), 2, run))


def test_other_errors_pass() -> None:
    """They are no matter of size."""
    sizes, run = limited(1, RuntimeError)
    with pytest.raises(RuntimeError):
        list(run_batches(range(3), 2, run))
    assert sizes == [2]


def test_the_machines_own_memory_counts() -> None:
    """As torch reports it."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
