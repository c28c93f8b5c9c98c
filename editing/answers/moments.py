"""Moments of keys and gradients, which add up, and what they standardise.

One normaliser serves all layers of a shape: a row is the key of a layer followed by its
gradient, whatever the layer. The moments of two parties add up to those of their union,
since the variance is the biased one of each batch, ``Σx² − (Σx)²/n``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.statistics import StatisticsError
from editing.answers.pairs import AnswerPairs

Shape = tuple[int, int]
"""``d_out`` and ``d_in``, which layers with one normaliser share."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the rows of all layers of a shape, in float64.

    Attributes:
        count: Number of rows.
        total: ``Σx``, the keys' entries before those of the gradients.
        squares: ``Σx²``.
        products: ``Σ g gᵀ``; None if it is not asked for.
    """

    count: int
    total: Float[Tensor, " width"]
    squares: Float[Tensor, " width"]
    products: Float[Tensor, "d_out d_out"] | None = None

    @classmethod
    def zero(cls, shape: Shape, *, products: bool = False) -> "Moments":
        """Return the moments of no row."""
        width, square = sum(shape), (shape[0], shape[0])
        zeros = torch.zeros(width, dtype=torch.float64)
        own = torch.zeros(square, dtype=torch.float64) if products else None
        return cls(0, zeros, zeros, own)

    @classmethod
    def of_pairs(
        cls, pairs: AnswerPairs, *, products: bool = False, unbiased: bool = False
    ) -> "Moments":
        """Sum the rows of one layer.

        Args:
            pairs: Keys and gradients.
            products: Whether the gradients' outer products are summed, too.
            unbiased: Whether the rows' variance is divided by one less than their
                number, as UltraEdit's program does: then batches do not pool.
        """
        rows = torch.cat([pairs.keys, pairs.gradients], dim=1).double()
        total, squares = rows.sum(dim=0), rows.square().sum(dim=0)
        if unbiased:
            squares = squares + rows.var(dim=0)
        own = pairs.gradients.double()
        return cls(len(rows), total, squares, own.mT @ own if products else None)

    @property
    def shape(self) -> int:
        """Return the number of entries of a row."""
        return len(self.total)

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of both together.

        Raises:
            StatisticsError: If they are of layers of other widths, or one of them alone
                has outer products.
        """
        mine, theirs = self.products, other.products
        same = (mine is None) == (theirs is None) and self.shape == other.shape
        if not same or (mine is not None and mine.shape != theirs.shape):  # type: ignore[union-attr]
            raise StatisticsError(
                "Cannot pool moments of rows with "
                f"{self.shape} and {other.shape} entries, or with and without outer "
                "products. Do all parties edit the same base model?"
            )
        both = None if mine is None or theirs is None else mine + theirs
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            both,
        )

    @property
    def mean(self) -> Float[Tensor, " width"]:
        """Return ``Σx / n``."""
        return self.total / max(self.count, 1)

    @property
    def std(self) -> Float[Tensor, " width"]:
        """Return ``√((Σx² − (Σx)²/n) / (n − 1))``."""
        centred = self.squares - self.count * self.mean.square()
        return (centred.clamp(min=0) / max(self.count - 1, 1)).sqrt()

    @property
    def scatter(self) -> Float[Tensor, "d_out d_out"]:
        """Return ``Σ (g − ḡ)(g − ḡ)ᵀ``."""
        assert self.products is not None, "outer products were not summed"
        mean = self.mean[-len(self.products) :]
        return self.products - self.count * torch.outer(mean, mean)


ByShape = Mapping[Shape, Moments]


def sum_moments(
    pairs: Mapping[int, AnswerPairs], *, products: bool = False
) -> dict[Shape, Moments]:
    """Sum the rows of all layers, shape by shape, in the order of the layers."""
    return pool_moments(
        {
            (own.gradients.shape[1], own.keys.shape[1]): Moments.of_pairs(
                own, products=products
            )
        }
        for own in pairs.values()
    )


def pool_moments(parts: Iterable[ByShape]) -> dict[Shape, Moments]:
    """Add moments up in the order given, shape by shape."""
    total: dict[Shape, Moments] = {}
    for part in parts:
        for shape, own in part.items():
            total[shape] = total[shape] + own if shape in total else own
    return total
