"""The second moment of a text: a sum of ``k kᵀ``, and how it travels.

The prior's covariance is a mean over tokens, so it is a sum and a count, and those of
two parties' texts add up to those of their union:

    C₀ = Σⱼ Sⱼ / Σⱼ nⱼ    with   Sⱼ = Σ k kᵀ over the nⱼ tokens of party j

A moment travels in float64, because a mean over all texts on one machine is kept in it
and float32 would leave 1e-7 of it. It is symmetric, so half of it is enough; with fewer
tokens than half its width, a factor of it is smaller still.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import (
    ROUNDING,
    StatisticsError,
    check_matrix,
    check_semidefinite,
)

TRIANGLE, FACTOR = "triangle", "factor"
"""The two ways to write a moment: its upper half, or ``F`` with ``FᵀF`` equal to it."""

SINGLE_ROUNDING = 1e-4
"""Share of a moment's norm that an eigenvalue below 0 may have after float32 products,
whose entries are off by up to 6.1e-5 of their size (`editing.covariance.sums`)."""


MOST_TOKENS = 2**40
"""No party holds a text of more tokens: it would be the largest that is known."""


@dataclass(frozen=True, slots=True)
class MomentBounds:
    """Bounds of ``tr(C₀)``, the mean of ``‖k‖²`` over a text's tokens.

    Attributes:
        least: Lower bound.
        most: Upper bound.
    """

    least: float = 0.0
    most: float = math.inf


@dataclass(frozen=True, slots=True)
class TextMoment:
    """The second moment of a text at one layer.

    Attributes:
        total: Sum of key outer products over all tokens, in float64.
        tokens: Number of tokens summed.
        single: Whether any products were formed in float32 (`editing.covariance.sums`).
    """

    total: Float[Tensor, "d_in d_in"]
    tokens: int
    single: bool = False

    def __add__(self, other: "TextMoment") -> "TextMoment":
        """Pool two texts.

        Raises:
            StatisticsError: If the keys are of different width.
        """
        if self.total.shape != other.total.shape:
            raise StatisticsError(
                "Cannot pool second moments of different widths: "
                f"{tuple(self.total.shape)} and {tuple(other.total.shape)}. "
                "Do all parties hold the same base model?"
            )
        return TextMoment(
            self.total + other.total,
            self.tokens + other.tokens,
            self.single or other.single,
        )

    def mean(self) -> Float[Tensor, "d_in d_in"]:
        """Compute ``C₀``, the mean of ``k kᵀ`` over the tokens."""
        return self.total / self.tokens


def write_moment(moment: TextMoment) -> dict[str, Tensor]:
    """Write a moment as one tensor, under the name of its form; `read_moment` reads it.

    The factor depends on the moment alone, and so reveals no more than it
    does. It is chosen if it is smaller, which needs a text of no more tokens than half
    the width of the keys.
    """
    width = len(moment.total)
    if 2 * moment.tokens <= width:
        return {FACTOR: _factor(moment)}
    return {TRIANGLE: write_triangle(moment.total)}


def read_moment(
    tensors: Mapping[str, Tensor],
    tokens: int,
    d_in: int,
    *,
    single: bool = False,
    bounds: MomentBounds | None = None,
) -> TextMoment:
    """Read a moment of known width, and validate it.

    Args:
        tensors: As `write_moment` gave them.
        tokens: Number of tokens summed.
        d_in: Width of the keys.
        single: Whether products were formed in float32, which leaves more rounding.
        bounds: What its mean may be; anything if None.

    Raises:
        StatisticsError: If the count is not positive or beyond all texts, the form is
            unknown, a shape is wrong, a number is not finite, the sum is not positive
            semidefinite, or its mean is out of bounds.
    """
    if not 1 <= tokens <= MOST_TOKENS:
        raise StatisticsError(
            "The second moment of at least one token was wanted, and of 2^40 at most, "
            f"got {tokens}."
        )
    if set(tensors) == {FACTOR}:
        total = _read_factor(tensors[FACTOR], tokens, d_in)
    elif set(tensors) == {TRIANGLE}:
        total = read_triangle(tensors[TRIANGLE], d_in)
        check_semidefinite(total, SINGLE_ROUNDING if single else ROUNDING)
    else:
        raise StatisticsError(
            f"A second moment written as `{TRIANGLE}` or `{FACTOR}` was wanted, got "
            f"{len(tensors)} tensors of other names. Does the party run another "
            "version?"
        )
    moment = TextMoment(total, tokens, single)
    check_mean(moment, bounds or MomentBounds())
    return moment


def check_mean(moment: TextMoment, bounds: MomentBounds) -> None:
    """Refuse a text whose keys are longer or shorter than those of any text.

    The mean of ``‖k‖²`` is ``tr(Σ k kᵀ) / tokens``, so a number of tokens that is not
    the sum's is seen as well, once it is off by as much as the bounds are apart.

    Raises:
        StatisticsError: If the mean is out of bounds.
    """
    mean = moment.total.trace().item() / moment.tokens
    if not bounds.least <= mean <= bounds.most:
        raise StatisticsError(
            f"The second moment implies keys of norm {max(mean, 0) ** 0.5:.3g} in "
            "the root mean square, and of text they are between "
            f"{bounds.least**0.5:.3g} and {bounds.most**0.5:.3g}. Does the party's "
            "model or precision differ? If its text is right, raise "
            "`run.max-key-ratio`."
        )


def write_triangle(matrix: Float[Tensor, "d d"]) -> Float[Tensor, " half"]:
    """List a symmetric matrix's upper half row by row: ``d (d + 1) / 2`` numbers."""
    return torch.cat([matrix[row, row:] for row in range(len(matrix))])


def read_triangle(triangle: Tensor, width: int) -> Float[Tensor, "d d"]:
    """Undo `write_triangle`, bit for bit, in float64."""
    check_matrix(TRIANGLE, triangle[None], (1, width * (width + 1) // 2))
    matrix = torch.zeros(width, width, dtype=torch.float64)
    start = 0
    for row in range(width):
        end = start + width - row
        matrix[row, row:] = matrix[row:, row] = triangle[start:end].double()
        start = end
    return matrix


def triangle_width(triangle: Tensor) -> int:
    """Return the width of the matrix whose half `write_triangle` listed."""
    return (math.isqrt(8 * triangle.numel() + 1) - 1) // 2


def _factor(moment: TextMoment) -> Float[Tensor, "rank d_in"]:
    """Cholesky with pivots, until what is left of the diagonal is rounding.

    Each row takes the largest entry that is left (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., section 10.3): ``d_in · tokens²`` operations, where
    eigenvectors would cost ``d_in³``.
    """
    total, tokens = moment.total, moment.tokens
    rows = torch.zeros(tokens, len(total), dtype=torch.float64)
    left = total.diagonal().clone()
    rounding = torch.finfo(left.dtype).eps * tokens * left.max()
    for number, row in enumerate(rows):
        pivot = int(left.argmax())
        if left[pivot] <= rounding:
            return rows[:number]
        before = rows[:number]
        row.copy_(total[pivot] - before[:, pivot] @ before).div_(left[pivot].sqrt())
        left -= row.square()
        left[pivot] = 0
    return rows


def _read_factor(factor: Tensor, tokens: int, d_in: int) -> Float[Tensor, "d_in d_in"]:
    """Multiply a factor; the sum is positive semidefinite by construction.

    Raises:
        StatisticsError: If there are more rows than tokens.
    """
    rank = len(factor) if factor.ndim else 0
    check_matrix(FACTOR, factor, (rank, d_in))
    if rank > tokens:
        raise StatisticsError(
            f"The second moment of {tokens} tokens has a factor of at most {tokens} "
            f"rows, got {rank}. Does the party leave tokens uncounted?"
        )
    rows = factor.double()
    product = rows.mT @ rows
    # Finite factors can have products that are not.
    check_matrix(FACTOR, product, (d_in, d_in))
    # A product of many threads may differ from its mirror image in the last bit.
    return product.triu() + product.triu(1).mT
