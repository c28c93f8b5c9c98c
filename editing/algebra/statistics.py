"""The sufficient statistics of a batch of edits, and their sum.

For keys ``K`` (one row an edit) and residuals ``R`` the least-squares delta of a layer
depends on the batch only through ``KᵀK`` and ``RᵀK``. Both are sums over edits, so the
statistics of two parties add up to the statistics of their union.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.base.errors import InputError

ROUNDING = 1e-9
"""Share of a gram's norm that asymmetry and negative eigenvalues may have."""


class StatisticsError(InputError):
    """Statistics that no batch of edits can have."""


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """The sufficient statistics of a batch of edits at one layer.

    Attributes:
        gram: Sum of key outer products, ``KᵀK``.
        cross: Sum of residual-key outer products, ``RᵀK``.
        count: Number of edits summed.
    """

    gram: Float[Tensor, "d_in d_in"]
    cross: Float[Tensor, "d_out d_in"]
    count: int

    @classmethod
    def of_pairs(
        cls, keys: Float[Tensor, "n d_in"], residuals: Float[Tensor, "n d_out"]
    ) -> "LayerStatistics":
        """Summarise key-residual pairs in double precision."""
        keys, residuals = keys.double(), residuals.double()
        return cls(keys.mT @ keys, residuals.mT @ keys, keys.shape[0])

    def __add__(self, other: "LayerStatistics") -> "LayerStatistics":
        """Pool two batches.

        Raises:
            StatisticsError: If the batches come from layers of different width.
        """
        if self.cross.shape != other.cross.shape:
            raise StatisticsError(
                "Cannot pool statistics of layers with different widths: "
                f"{tuple(self.cross.shape)} and {tuple(other.cross.shape)}. "
                "Do all parties edit the same base model?"
            )
        return LayerStatistics(
            self.gram + other.gram, self.cross + other.cross, self.count + other.count
        )


@dataclass(frozen=True, slots=True)
class NormBounds:
    """Largest norms of keys and residuals, in the root mean square of a party's edits.

    Attributes:
        key: Of ``‖k‖``.
        residual: Of ``‖r‖``.
    """

    key: float = math.inf
    residual: float = math.inf


def pool(statistics: Iterable[LayerStatistics]) -> LayerStatistics:
    """Sum statistics in the order given, holding one total at a time.

    Raises:
        StatisticsError: If there is nothing to sum.
    """
    parts = iter(statistics)
    total = next(parts, None)
    if total is None:
        raise StatisticsError(
            "Pooling needs the statistics of at least one party, got none. "
            "Did every party reply with an error?"
        )
    for part in parts:
        total = total + part
    return total


def check_count(count: int) -> None:
    """Refuse a batch without edits.

    Raises:
        StatisticsError: If the count is zero or negative.
    """
    if count < 1:
        raise StatisticsError(
            f"The statistics of at least one edit were wanted, got a count of {count}. "
            "A party without requests must not take part in the round."
        )


def check_matrix(name: str, matrix: Tensor, shape: tuple[int, int]) -> None:
    """Refuse a matrix of another layer, or one that would corrupt every sum.

    Raises:
        StatisticsError: If the shape differs or an entry is not a finite number.
    """
    if tuple(matrix.shape) != shape:
        raise StatisticsError(
            f"`{name}` of shape {shape} was wanted, got {tuple(matrix.shape)!s:.80}. "
            "Does the party edit another model or another layer?"
        )
    broken = int((~matrix.isfinite()).sum().item())
    if broken:
        raise StatisticsError(
            f"`{name}` must be finite, got {broken} of {matrix.numel()} entries NaN or "
            "infinite. Half precision overflows first: try a wider dtype at the party."
        )


def check_semidefinite(
    gram: Float[Tensor, "d_in d_in"], rounding: float = ROUNDING
) -> None:
    """Refuse a gram that no keys have, up to the rounding of its products.

    A Cholesky factorisation of the gram, shifted by the rounding, fails if and only if
    an eigenvalue is lower than that, for a fraction of what eigenvalues cost.

    Args:
        gram: What is checked.
        rounding: Share of the gram's norm, by default that of a float64 product.

    Raises:
        StatisticsError: If the gram is not symmetric or has a negative eigenvalue, or
            its norm is beyond all numbers, so that no rounding is a share of it.
    """
    tolerance = rounding * gram.norm() + torch.finfo(gram.dtype).tiny
    if not tolerance.isfinite():
        raise StatisticsError(
            "`gram` must have a norm that is a number, and its entries are as large as "
            f"{gram.abs().max().item():.3g}."
        )
    skew = (gram - gram.mT).abs().max()
    if skew > tolerance:
        raise StatisticsError(
            "`gram` must be symmetric, being a sum of outer products, got entries "
            f"that differ from their mirror image by up to {skew.item():.3g}."
        )
    shifted = gram.clone()
    shifted.diagonal().add_(tolerance)
    if torch.linalg.cholesky_ex(shifted).info.item() != 0:
        raise StatisticsError(
            "`gram` must have no negative eigenvalue, being a sum of outer products, "
            f"got one below {-tolerance.item():.3g}."
        )


def check_norms(statistics: LayerStatistics, bounds: NormBounds) -> None:
    """Refuse keys or residuals longer than any valid edit's.

    The mean of ``‖k‖²`` is ``tr(KᵀK) / count``. Residuals are known through ``RᵀK``
    alone, of which the inequality of Cauchy and Schwarz bounds each column ``j`` by
    ``‖R‖ · √gram_jj``. So a column of a key entry that is zero in all keys is refused
    whatever the bounds are: it would change the weight where no edit asks for it.

    Args:
        statistics: With finite entries and a count of at least 1.
        bounds: What is allowed.

    Raises:
        StatisticsError: If a bound is exceeded.
    """
    squares = statistics.gram.diagonal().double().clamp(min=0)
    length = (squares.sum() / statistics.count).sqrt().item()
    if length > bounds.key:
        raise StatisticsError(
            f"`gram` implies keys of norm {length:.3g}, and at most {bounds.key:.3g} "
            "is allowed. Does the party's model or precision differ? If its edits are "
            "right, raise `run.max-key-ratio`."
        )
    columns = statistics.cross.double().norm(dim=0)
    scale = (statistics.count * squares).sqrt()
    reach = torch.where(scale > 0, bounds.residual * scale, 0.0)
    # Finite entries may have a norm that is not, and then no rounding is a share of it.
    slack = torch.nan_to_num(ROUNDING * columns.norm(), posinf=0.0)
    beyond = (columns > reach + slack) | columns.isinf()
    if beyond.any():
        least = (columns / scale)[beyond].max().item()
        raise StatisticsError(
            f"`cross` implies residuals of norm {least:.3g} or more, and at most "
            f"{bounds.residual:.3g} is allowed. Is it of the same edits as `gram`? If "
            "they are right, raise `run.max-residual-ratio`."
        )
