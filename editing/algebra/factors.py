"""A delta of low rank as two factors, whose product has the same bits everywhere.

A delta that was solved from ``n`` rows has rank ``n`` at most, and then two factors of
``n (d_out + d_in)`` numbers say as much as ``d_out · d_in``. But the sums in a product
of matrices are rounded in an order that depends on the machine and on its threads, so
two nodes that multiply may hold two models. These factors are fixed-point numbers: in
each row of the left one, and in each column of the right one, all entries are whole
multiples of one power of two, and no more than ``2²⁴`` of it. With the right factor
split into an upper and a lower half of its bits, all products and all their sums are
whole multiples that float64 holds exactly, in any order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.low_rank import decompose

BITS = 24
"""Bits of an entry without its sign: as many as float32 holds exactly."""

MOST_RANK = 2**17
"""Sums of ``rank`` products of ``BITS`` and half as many bits fit in float64."""

NEGLIGIBLE = 2.0**-30
"""Share of a delta's norm at which a singular value is left out."""

TOLERANCE = 1e-6
"""Largest relative difference of a delta and its factors; else it has no low rank."""

_SPARE = 8
"""Further directions that are drawn, so that none of the delta's is missed."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Two factors of a delta, in fixed point.

    Attributes:
        left: In float32.
        right: In float32.
    """

    left: Float[Tensor, "d_out rank"]
    right: Float[Tensor, "rank d_in"]

    @property
    def rank(self) -> int:
        """Number of columns of the left one."""
        return len(self.right)

    def product(self) -> Float[Tensor, "d_out d_in"]:
        """Multiply them in float64, to the same bits on every machine."""
        left, right = self.left.double(), self.right.double()
        unit = _power_above(right, dim=0) * 2.0 ** (-BITS // 2)
        upper = (right / unit).round() * unit
        return (left @ upper).add_(left @ (right - upper))


def factorise_delta(
    delta: Float[Tensor, "d_out d_in"], most_rank: int
) -> Factors | None:
    """Find factors of a delta in float64; None if they would not be smaller.

    The range is found with random directions (Halko, Martinsson and Tropp 2011,
    algorithm 4.1), always the same ones.

    Args:
        delta: What is factorised.
        most_rank: A bound of its rank, by the rows that it was solved from.
    """
    d_out, d_in = delta.shape
    if most_rank * (d_out + d_in) >= d_out * d_in or most_rank > MOST_RANK:
        return None
    drawn = min(most_rank + _SPARE, d_out, d_in)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(d_in, drawn, dtype=torch.float64, generator=generator)
    basis = torch.linalg.qr(delta @ directions).Q
    spectrum = decompose(basis.mT @ delta)
    norm = spectrum.values.norm()
    rank = max(1, int((spectrum.values > NEGLIGIBLE * norm).sum()))
    found = Factors(
        _to_fixed_point(basis @ spectrum.left[:, :rank], dim=1),
        _to_fixed_point(spectrum.right[:rank], dim=0),
    )
    error = (found.product() - delta).norm()
    return found if bool(error <= TOLERANCE * delta.norm()) else None


def _to_fixed_point(matrix: Float[Tensor, "r c"], dim: int) -> Float[Tensor, "r c"]:
    """Round entries to multiples of a power of two that those along `dim` share."""
    unit = _power_above(matrix, dim) * 2.0**-BITS
    return ((matrix / unit).round() * unit).float()


def _power_above(matrix: Float[Tensor, "r c"], dim: int) -> Tensor:
    """Return the power of two above the largest magnitude along a dimension, exactly.

    A number is its mantissa times that power, so the quotient is not rounded.
    """
    largest = matrix.abs().amax(dim=dim, keepdim=True)
    mantissa = torch.frexp(largest).mantissa
    return torch.where(largest > 0, largest / mantissa, 1.0)
