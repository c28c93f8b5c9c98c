"""Two encodings of a party's statistics for the wire, both decoding to one value.

``dense`` sends ``KᵀK``, of which half is enough, and ``RᵀK``, which may be added before
they are decoded. ``factors`` sends ``(QK, QR)`` with a random orthogonal ``Q`` that the
party alone knows. It decodes to the same statistics, because ``(QK)ᵀ(QK) = KᵀK`` and
``(QR)ᵀ(QK) = RᵀK``, and reveals no more than they do. It is smaller for few edits: as
many rows as the keys' rank, at most the number of edits, instead of ``d_in``.
``factors-float32`` sends the same rows in single precision, unless the model is in
double (`encoding_for`). That is half the bytes, and each number is off by up to 6e-8 of
its size, as all are that a model computes in float32.

None hides the statistics themselves: a holder of a party's gram can test whether a
guessed subject is among its edits.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.second_moments import read_triangle, write_triangle
from editing.algebra.statistics import (
    LayerStatistics,
    NormBounds,
    StatisticsError,
    check_count,
    check_matrix,
    check_norms,
)
from editing.base.foreign_text import show_foreign

Encoding = Literal["factors", "factors-float32", "dense"]
"""How a party's statistics are written on the wire."""

CLEAR = 1e-8
"""Least over largest eigenvalue of ``KKᵀ`` from which the keys are independent."""


@dataclass(frozen=True, slots=True)
class EncodedStatistics:
    """One layer's statistics as they travel.

    Attributes:
        encoding: How to read the tensors: ``factors`` or ``dense``, unless a party made
            it up.
        tensors: ``keys`` (``rank d_in``) and ``residuals`` (``rank d_out``) for
            factors; ``gram`` (its upper half, see `write_triangle`) and ``cross`` for
            dense; all float64, or float32 for factors in single precision.
        count: Number of edits, which may exceed the rank.
    """

    encoding: str
    tensors: Mapping[str, Tensor]
    count: int


def encode(
    keys: Float[Tensor, "n d_in"],
    residuals: Float[Tensor, "n d_out"],
    encoding: Encoding,
    generator: torch.Generator | None = None,
) -> EncodedStatistics:
    """Encode a party's pairs of one layer, all computed in float64.

    Without a generator the rotation comes from the operating system's randomness, as it
    must wherever the statistics leave the machine: a seed can be guessed, and with it
    the rotation undone. A simulation passes a seeded one, so that a run repeats.
    """
    check_count(len(keys))
    if encoding == "dense":
        statistics = LayerStatistics.of_pairs(keys, residuals)
        half = write_triangle(statistics.gram)
        tensors = {"gram": half, "cross": statistics.cross}
        return EncodedStatistics("dense", tensors, len(keys))
    span = _find_span(keys.double())
    rotation = draw_rotation(span.shape[1], generator).to(span.device)
    turn = rotation @ span.mT
    dtype = torch.float32 if encoding == "factors-float32" else torch.float64
    turned = {"keys": turn @ keys.double(), "residuals": turn @ residuals.double()}
    tensors = {name: each.to(dtype) for name, each in turned.items()}
    return EncodedStatistics("factors", tensors, len(keys))


def encoding_for(encoding: Encoding, dtype: torch.dtype) -> Encoding:
    """Return what to use for a model of a precision: a double one loses nothing."""
    single = encoding == "factors-float32"
    return "factors" if single and dtype == torch.float64 else encoding


def decode(
    encoded: EncodedStatistics,
    d_in: int,
    d_out: int,
    bounds: NormBounds | None = None,
    wanted: Encoding | None = None,
) -> LayerStatistics:
    """Read the statistics of a layer of known width, and validate them.

    Args:
        encoded: As it travelled.
        d_in: Width of the layer's keys.
        d_out: Width of its residuals.
        bounds: How long keys and residuals may be; as long as they like if None.
        wanted: The encoding that was asked for; any if None.

    Raises:
        StatisticsError: If the encoding is unknown or another, a tensor is missing, or
            no batch of edits can have such statistics: a count that is not positive, a
            wrong shape, a number that is not finite, a gram that is not positive
            semidefinite or of a higher rank than there are edits, a cross that does not
            go with it, a norm beyond a bound.
    """
    readers: dict[str, Callable[[EncodedStatistics, int, int], LayerStatistics]] = {
        "factors": _decode_factors,
        "dense": _decode_dense,
    }
    if wanted is not None:
        own = wanted.removesuffix("-float32")
        readers = {own: readers[own]}
    reader = readers.get(encoded.encoding)
    if reader is None:
        raise StatisticsError(
            f"Statistics encoded as {' or '.join(readers)} were wanted, got "
            f"{show_foreign(encoded.encoding)}. Does the party run another version?"
        )
    statistics = reader(encoded, d_in, d_out)
    check_norms(statistics, bounds or NormBounds())
    return statistics


def draw_rotation(
    rank: int, generator: torch.Generator | None = None, noise: bytearray | None = None
) -> Float[Tensor, "rank rank"]:
    """Draw an orthogonal matrix, all of them equally likely (Haar).

    The QR factors of a Gaussian matrix are unique once the diagonal of the triangle is
    positive, and then the orthogonal one is as indifferent to rotation as the Gaussian.

    Args:
        rank: Its size.
        generator: Draws it; the operating system does if there is none.
        noise: Uniform bytes that determine it, eight for each entry.
    """
    orthogonal, triangle = torch.linalg.qr(_draw_gaussian(rank, generator, noise))
    rotation: Tensor = orthogonal * triangle.diagonal().sign()
    return rotation


def _draw_gaussian(
    rank: int, generator: torch.Generator | None, noise: bytearray | None
) -> Float[Tensor, "rank rank"]:
    """Draw from the generator, or from the operating system if there is none.

    A torch generator has 32 bits of seed, few enough to try them all, so the system's
    bytes are used as they are: 53 bits of each eight make a uniform number.
    """
    if generator is not None:
        return torch.randn(rank, rank, dtype=torch.float64, generator=generator)
    noise = bytearray(os.urandom(8 * rank * rank)) if noise is None else noise
    bits = torch.frombuffer(noise, dtype=torch.int64) & (2**53 - 1)
    uniform = (bits.double() + 0.5) * 2.0**-53
    normal: Tensor = torch.special.ndtri(uniform)
    return normal.reshape(rank, rank)


def _find_span(keys: Float[Tensor, "n d_in"]) -> Float[Tensor, "n rank"]:
    """Find what turns the pairs so that as many rows as the keys' rank are left.

    With ``K = U S Vᵀ`` of that rank, ``UᵀK`` and ``UᵀR`` have the same gram and cross.
    What is left out is the part of the residuals that no update of the weight can fit,
    which the statistics do not hold either. ``U`` are the eigenvectors of ``KKᵀ``,
    orthogonal to rounding, where all ``n`` of them are clearly needed. Elsewhere the
    rank is read from ``S``, which ``KKᵀ`` knows to half the digits alone.
    """
    if len(keys) <= keys.shape[1]:
        squares, vectors = torch.linalg.eigh(keys @ keys.mT)
        if squares[0] > CLEAR * squares[-1]:
            all_rows: Tensor = vectors
            return all_rows
    left, scale, _ = torch.linalg.svd(keys, full_matrices=False)
    rounding = torch.finfo(keys.dtype).eps * max(keys.shape)
    rank = int((scale > rounding * scale.max()).sum().item())
    span: Tensor = left[:, :rank]
    return span


def _decode_factors(
    encoded: EncodedStatistics, d_in: int, d_out: int
) -> LayerStatistics:
    """Take the factors as rows; their gram is positive semidefinite by construction.

    Raises:
        StatisticsError: If there are more rows than edits.
    """
    keys, residuals = _tensor(encoded, "keys"), _tensor(encoded, "residuals")
    check_count(encoded.count)
    rank = keys.shape[0] if keys.ndim else 0
    check_matrix("keys", keys, (rank, d_in))
    check_matrix("residuals", residuals, (rank, d_out))
    if rank > encoded.count:
        raise StatisticsError(
            f"Factors of {encoded.count} edits have at most {encoded.count} rows, got "
            f"{rank}. Does the party leave requests uncounted?"
        )
    return LayerStatistics.of_pairs(keys, residuals, encoded.count)


def _decode_dense(encoded: EncodedStatistics, d_in: int, d_out: int) -> LayerStatistics:
    """Take the matrices as they are; `check_norms` refuses those of no edits."""
    half, cross = _tensor(encoded, "gram"), _tensor(encoded, "cross").double()
    check_count(encoded.count)
    check_matrix("gram", half[None], (1, d_in * (d_in + 1) // 2))
    check_matrix("cross", cross, (d_out, d_in))
    return LayerStatistics.of_sums(read_triangle(half, d_in), cross, encoded.count)


def _tensor(encoded: EncodedStatistics, name: str) -> Tensor:
    """Look a tensor up.

    Raises:
        StatisticsError: If it is missing.
    """
    if name not in encoded.tensors:
        found = (
            show_foreign(", ".join(encoded.tensors)) if encoded.tensors else "nothing"
        )
        raise StatisticsError(
            f"Statistics encoded as {encoded.encoding} hold `{name}`, got only {found}."
        )
    return encoded.tensors[name]
