"""Batches that shrink until they fit in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_batches(
    items: Sequence[Item],
    size: int,
    run: Callable[[Sequence[Item]], Result],
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Run items in batches, in order, and halve the batch when memory runs out.

    A batch that did not fit is run again in halves; later ones keep the smaller size.
    A result may differ in its last bits with the batch that it was computed in.

    Args:
        items: What is to be run.
        size: Items of a batch, to begin with.
        run: Runs one batch and holds nothing of one that failed.

    Yields:
        Each batch with what it gave.

    Raises:
        MemoryError: If a single item does not fit.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        result = _try_to_run(batch, run)
        if isinstance(result, _TooLarge):
            if len(batch) == 1:
                raise MemoryError(
                    "one item alone does not fit in memory; use a smaller model, "
                    "lower precision (`model.dtype`) or another device "
                    "(`model.device`)"
                )
            size = (len(batch) + 1) // 2
            continue
        start += len(batch)
        yield batch, result


class _TooLarge:
    """Marks a batch that did not fit in memory."""


def _try_to_run(
    batch: Sequence[Item], run: Callable[[Sequence[Item]], Result]
) -> Result | _TooLarge:
    # The failed frames are gone when this returns, and with them what they held.
    try:
        return run(batch)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return _TooLarge()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether GPU or CPU memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch has no type of its own for the machine's memory.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
