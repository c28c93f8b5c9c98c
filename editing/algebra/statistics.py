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
from torch.linalg import solve_triangular

from editing.algebra.threads import threads_for
from editing.base.errors import InputError

ROUNDING = 1e-9
"""Share of a gram's norm that asymmetry and negative eigenvalues may have."""

SHARE = 4
"""Rows are few up to one for so many entries of a key: then they are held as they are,
and solved without their gram."""


class StatisticsError(InputError):
    """Statistics that no batch of edits can have."""


class LongResidualsError(StatisticsError):
    """Residuals longer than any valid edit's on a model that is in order."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is left of edits whose rows are not held.

    Attributes:
        gram: Sum of their key outer products.
        cross: Sum of their residual-key outer products.
    """

    gram: Float[Tensor, "d_in d_in"]
    cross: Float[Tensor, "d_out d_in"]


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """The sufficient statistics of a batch of edits at one layer.

    Rows are smaller than their sums while they are few, and solve faster. They may be
    of the edits themselves or of any rotation of them, which has the same sums.

    Attributes:
        keys: ``K``, in float64.
        residuals: ``R``, in float64.
        count: Number of edits, which may exceed the rows.
        sums: Those of further edits, if there are any.
    """

    keys: Float[Tensor, "rows d_in"]
    residuals: Float[Tensor, "rows d_out"]
    count: int
    sums: Sums | None = None

    @classmethod
    def of_pairs(
        cls,
        keys: Float[Tensor, "n d_in"],
        residuals: Float[Tensor, "n d_out"],
        count: int | None = None,
    ) -> "LayerStatistics":
        """Hold key-residual pairs in double precision.

        Args:
            keys: Rows are edits, or a rotation of them.
            residuals: In the same order.
            count: Number of edits, if they are not as many.
        """
        edits = len(keys) if count is None else count
        return cls(keys.double(), residuals.double(), edits)

    @classmethod
    def of_sums(
        cls,
        gram: Float[Tensor, "d_in d_in"],
        cross: Float[Tensor, "d_out d_in"],
        count: int,
    ) -> "LayerStatistics":
        """Hold ``KᵀK`` and ``RᵀK`` of edits whose rows are not known."""
        sums = Sums(gram.double(), cross.double())
        keys = sums.gram.new_zeros(0, len(gram))
        return cls(keys, keys.new_zeros(0, len(cross)), count, sums)

    @property
    def gram(self) -> Float[Tensor, "d_in d_in"]:
        """Sum of key outer products, ``KᵀK``; a product each time it is read."""
        width = self.keys.shape[1]
        return self.add_gram(self.keys.new_zeros(width, width))

    @property
    def cross(self) -> Float[Tensor, "d_out d_in"]:
        """Sum of residual-key outer products, ``RᵀK``; a product like `gram`."""
        product = self.residuals.mT @ self.keys
        return product if self.sums is None else product.add_(self.sums.cross)

    def add_gram(
        self, matrix: Float[Tensor, "d_in d_in"]
    ) -> Float[Tensor, "d_in d_in"]:
        """Add the gram to a matrix in place, and return it."""
        with threads_for(len(matrix)):
            if self.sums is not None:
                matrix += self.sums.gram
            return matrix.addmm_(self.keys.mT, self.keys)

    @property
    def few(self) -> bool:
        """Whether rows hold everything, and are few for their width."""
        return self.sums is None and SHARE * len(self.keys) <= self.keys.shape[1]

    def __add__(self, other: "LayerStatistics") -> "LayerStatistics":
        """Pool two batches; see `pool`."""
        return pool([self, other])


@dataclass(frozen=True, slots=True)
class NormBounds:
    """Largest norms of keys and residuals, in the root mean square of a party's edits.

    Attributes:
        key: Of ``‖k‖``.
        residual: Of ``‖r‖``.
    """

    key: float = math.inf
    residual: float = math.inf


class Total:
    """A sum of statistics that grows in place.

    Rows are kept until there are many of them, and are then multiplied in one product:
    memory is bounded, whatever is added.
    """

    def __init__(self) -> None:
        """Start without any part."""
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._held = 0
        self._sums: Sums | None = None
        self._shared = False
        self._count = 0
        self._widths: tuple[int, int] | None = None

    def add(self, part: LayerStatistics) -> None:
        """Add a part, which stays as it is.

        Raises:
            StatisticsError: If it is of a layer of another width.
        """
        widths = (part.residuals.shape[1], part.keys.shape[1])
        if self._widths not in (None, widths):
            raise StatisticsError(
                "Cannot pool statistics of layers with different widths: "
                f"{self._widths} and {widths}. Do all parties edit the same base model?"
            )
        self._widths = widths
        self._count += part.count
        if part.sums is not None:
            self._add_sums(part.sums)
        self._rows.append((part.keys, part.residuals))
        self._held += len(part.keys)
        if SHARE * self._held > widths[1]:
            self._fold()

    def statistics(self) -> LayerStatistics:
        """Return the sum so far.

        Raises:
            StatisticsError: If there is nothing to sum.
        """
        if self._widths is None:
            raise StatisticsError(
                "Pooling needs the statistics of at least one party, got none. "
                "Did every party reply with an error?"
            )
        self._shared = True
        return LayerStatistics(*self._join(), self._count, self._sums)

    def _join(self) -> tuple[Tensor, Tensor]:
        if len(self._rows) > 1:
            keys, residuals = zip(*self._rows, strict=True)
            self._rows = [(torch.cat(keys), torch.cat(residuals))]
        return self._rows[0]

    def _add_sums(self, sums: Sums) -> None:
        if self._sums is None:
            self._sums, self._shared = sums, True
        else:
            own = self._own(self._sums)
            own.gram.add_(sums.gram)
            own.cross.add_(sums.cross)

    def _fold(self) -> None:
        """Replace the rows by their sums."""
        keys, residuals = self._join()
        if self._sums is None:
            self._sums, self._shared = Sums(keys.mT @ keys, residuals.mT @ keys), False
        else:
            own = self._own(self._sums)
            own.gram.addmm_(keys.mT, keys)
            own.cross.addmm_(residuals.mT, keys)
        self._rows, self._held = [(keys[:0].clone(), residuals[:0].clone())], 0

    def _own(self, sums: Sums) -> Sums:
        """Return sums that nobody else holds, so that they may be changed."""
        if self._shared:
            sums = Sums(sums.gram.clone(), sums.cross.clone())
            self._sums, self._shared = sums, False
        return sums


def pool(statistics: Iterable[LayerStatistics]) -> LayerStatistics:
    """Sum statistics in the order given, holding one total at a time.

    Nothing to sum is a `StatisticsError`, and so are parts of different widths.
    """
    total = Total()
    for part in statistics:
        total.add(part)
    return total.statistics()


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
    """Refuse a gram that no keys have, up to rounding by a share of its norm."""
    _factorise_shifted(gram, rounding)


def _factorise_shifted(
    gram: Float[Tensor, "d_in d_in"], rounding: float = ROUNDING
) -> tuple[Float[Tensor, "d_in d_in"], float]:
    """Factorise ``G + τI = L Lᵀ``; return ``L`` and ``τ``, the rounding of ``G``.

    It fails if and only if an eigenvalue is below ``−τ``.

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
    with threads_for(len(gram)):
        factor, info = torch.linalg.cholesky_ex(shifted)
    if info.item() != 0:
        raise StatisticsError(
            "`gram` must have no negative eigenvalue, being a sum of outer products, "
            f"got one below {-tolerance.item():.3g}."
        )
    return factor, tolerance.item()


def check_norms(statistics: LayerStatistics, bounds: NormBounds) -> None:
    """Refuse keys or residuals longer than any valid edit's.

    Args:
        statistics: Of one party, with finite entries and a count of at least 1.
        bounds: What is allowed; what exceeds it is a `StatisticsError`, and so are
            rows whose products are no numbers.
    """
    if statistics.sums is None:
        _check_rows(statistics, bounds)
    else:
        _check_sums(statistics.sums, statistics.count, bounds)


def _check_rows(statistics: LayerStatistics, bounds: NormBounds) -> None:
    """Hold rows to the bounds: a rotation changes no norm, and can only leave out.

    No entry of a product exceeds the product of the norms, so none is formed.
    """
    edits = statistics.count**0.5
    for name, rows in (("gram", statistics.keys), ("cross", statistics.residuals)):
        norm = rows.norm().item()
        if not math.isfinite(norm * norm):
            raise StatisticsError(
                f"`{name}` must be finite, and its factors have a norm of {norm:.3g}."
            )
        largest = bounds.key if name == "gram" else bounds.residual
        if norm > (1 + ROUNDING) * edits * largest:
            raise _too_long(name, norm / edits, largest)


def _check_sums(sums: Sums, count: int, bounds: NormBounds) -> None:
    """Hold sums to what keys and residuals within the bounds can have.

    The mean of ``‖k‖²`` is ``tr(G) / count``. Residuals are known through ``C = RᵀK``
    alone: ``C G⁺ Cᵀ = Rᵀ P R`` with a projection ``P``, so its trace is ``count·ρ²`` at
    most. A column of a key entry that is zero in all keys is refused whatever the
    bounds are: it would change the weight where no edit asks for it.
    """
    gram, cross = sums.gram, sums.cross
    factor, shift = _factorise_shifted(gram)
    squares = gram.diagonal().clamp(min=0)
    length = (squares.sum() / count).sqrt().item()
    if length > bounds.key:
        raise _too_long("gram", length, bounds.key)
    with threads_for(len(gram)):
        _check_rank(factor, shift, count)
        columns = cross.norm(dim=0)
        # Finite entries may have a norm that is not: no rounding is a share of it.
        slack = torch.nan_to_num(ROUNDING * columns.norm(), posinf=0.0)
        size = solve_triangular(factor, cross.mT, upper=False).norm().item()
    astray = (columns[squares == 0] > slack).any() or columns.isinf().any()
    if astray or not size <= (1 + ROUNDING) * count**0.5 * bounds.residual:
        raise _too_long("cross", size / count**0.5, bounds.residual)


def _check_rank(factor: Float[Tensor, "d_in d_in"], shift: float, count: int) -> None:
    """Refuse a gram of a higher rank than its edits can have.

    ``tr(G (G + τI)⁻¹) = d − τ ‖L⁻¹‖²`` is at most the rank of ``G``.

    Raises:
        StatisticsError: Saying how many edits there would have to be.
    """
    width = len(factor)
    if count >= width:
        return
    unit = torch.eye(width, dtype=factor.dtype, device=factor.device)
    inverse = solve_triangular(factor, unit, upper=False)
    rank = width - (shift**0.5 * inverse).square().sum().item()
    if rank > count + 0.5:
        raise StatisticsError(
            f"`gram` of {count} edits has a rank of {count} at most, got one of "
            f"{rank:.0f} or more. Does the party leave requests uncounted?"
        )


def _too_long(name: str, norm: float, largest: float) -> StatisticsError:
    """Say what is too long, and what to do if it is right."""
    if name == "gram":
        return StatisticsError(
            f"`gram` implies keys of norm {norm:.3g}, and at most {largest:.3g} "
            "is allowed. Does the party's model or precision differ? If its edits are "
            "right, raise `run.max-key-ratio`."
        )
    return LongResidualsError(
        f"`cross` implies residuals of norm {norm:.3g} or more, and at most "
        f"{largest:.3g} is allowed. Is it of the same edits as `gram`? If "
        "they are right, raise `run.max-residual-ratio`."
    )
