"""Take an update back out of a weight, bit for bit.

Adding rounds: ``W' = fl(W + Δ)``. Subtracting, ``fl(W' − Δ)``, gives most of the bits
of ``W`` back: it misses only where the sum needed more digits than the weight has,
mostly where it reached the next power of two. Those few entries are what has to be
kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Reversal:
    """The entries of a weight that subtraction does not give back.

    Attributes:
        values: What stood there, in the weight's precision.
        positions: Where, counted row by row; None if `values` is the weight whole,
            which takes less room once a third or more of its entries are missed.
    """

    values: Tensor
    positions: Tensor | None

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        held = [self.values] + ([] if self.positions is None else [self.positions])
        return sum(each.numel() * each.element_size() for each in held)


@dataclass(frozen=True, slots=True)
class Missed:
    """How far subtraction alone is from the weight that was.

    Attributes:
        count: Entries with other bits.
        largest: The largest difference of a value.
    """

    count: int
    largest: float


def subtract(edited: Tensor, update: Tensor) -> Tensor:
    """Compute ``W' − Δ`` in the finer precision of the two, rounded to the weight's."""
    return (edited - update).to(edited.dtype)


def plan_reversal(
    original: Tensor, edited: Tensor, update: Tensor
) -> tuple[Reversal, Missed]:
    """Find what must be kept of a weight so that its edit can be undone.

    Args:
        original: The weight before, in the precision that is written.
        edited: The weight after, in the same precision and shape.
        update: What was added, of the same shape, in the precision of the sum: where
            a finer one than is written was used, far fewer entries are missed.

    Returns:
        What to keep, and what subtraction alone would miss.
    """
    back = subtract(edited, update)
    wrong = _bits_of(back) != _bits_of(original)
    positions = wrong.flatten().nonzero().flatten()
    gaps = original[wrong].double() - back[wrong].double()
    missed = Missed(len(positions), float(gaps.abs().max()) if len(positions) else 0.0)
    if original.numel() <= torch.iinfo(torch.int32).max:
        positions = positions.to(torch.int32)
    sparse = Reversal(original.flatten()[wrong.flatten()], positions)
    if sparse.size < original.numel() * original.element_size():
        return sparse, missed
    return Reversal(original.clone(), None), missed


def undo(edited: Tensor, update: Tensor, reversal: Reversal) -> Tensor:
    """Give back the weight that `plan_reversal` was shown, bit for bit."""
    if reversal.positions is None:
        return reversal.values.to(edited.device)
    back = subtract(edited, update).contiguous()
    places = reversal.positions.to(edited.device, torch.int64)
    back.view(-1)[places] = reversal.values.to(edited.device)
    return back


def bound_of_rounding(edited: Tensor, update: Tensor) -> float:
    """Most that subtraction alone can miss a weight by, if nothing of it is known.

    The weight, the update, their sum and ``W' − Δ`` may each have been rounded to this
    precision, by half the distance between neighbouring numbers at most.
    """
    numbers = torch.finfo(edited.dtype)
    parts = (edited, update, subtract(edited, update))
    largest = max(float(each.abs().max()) for each in parts)
    return 2 * numbers.eps * max(largest, numbers.tiny)


def _bits_of(tensor: Tensor) -> Tensor:
    # Values would take −0 for 0.
    return tensor.view(_BITS[tensor.element_size()])
