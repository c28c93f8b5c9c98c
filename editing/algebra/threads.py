"""How many threads a computation on matrices takes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NARROW = 2048
"""Width below which the threads of a product wait longer for each other than they
compute, the more so the busier the machine is."""


@contextmanager
def threads_for(width: int) -> Iterator[None]:
    """Compute on one thread within, if the matrices are narrow.

    The number depends on the width alone, never on the load, so that the same
    command gives the same bits.
    """
    before = torch.get_num_threads()
    if width >= NARROW or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
