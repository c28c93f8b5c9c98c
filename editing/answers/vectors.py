"""Moments as named vectors: what travels, is summed under masks, and is kept.

For each shape there are ``{d_out}x{d_in}.count`` (one number), ``.total``, ``.squares``
and, if gradients are whitened, ``.products``, the upper half of a symmetric matrix.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from editing.algebra.second_moments import read_triangle, write_triangle
from editing.algebra.statistics import ROUNDING, StatisticsError, check_semidefinite
from editing.answers.moments import ByShape, Moments, Shape

MOST_ROWS = 2**40
"""No party has more answer tokens."""


def vector_lengths(shapes: Iterable[Shape], *, products: bool) -> dict[str, int]:
    """Return the length of each vector, by its name."""
    lengths: dict[str, int] = {}
    for shape in shapes:
        fields = {"count": 1, "total": sum(shape), "squares": sum(shape)}
        if products:
            fields["products"] = shape[0] * (shape[0] + 1) // 2
        lengths |= {f"{name_shape(shape)}.{field}": n for field, n in fields.items()}
    return lengths


def name_shape(shape: Shape) -> str:
    """Name a shape, as the first part of its vectors' names."""
    return f"{shape[0]}x{shape[1]}"


def write_vectors(moments: ByShape) -> dict[str, Tensor]:
    """Write moments as vectors, in float64; `read_vectors` undoes it."""
    vectors: dict[str, Tensor] = {}
    for shape, own in moments.items():
        fields = {
            "count": torch.tensor([own.count], dtype=torch.float64),
            "total": own.total,
            "squares": own.squares,
        }
        if own.products is not None:
            fields["products"] = write_triangle(own.products)
        vectors |= {f"{name_shape(shape)}.{each}": v for each, v in fields.items()}
    return vectors


def read_vectors(
    vectors: Mapping[str, Tensor], shapes: Iterable[Shape], *, products: bool
) -> dict[Shape, Moments]:
    """Read moments of known shapes.

    A vector that is missing, of another length or not of finite numbers is a
    `StatisticsError`, and so is a count that is not whole.
    """
    found = {}
    for shape in shapes:
        fields = {
            name.partition(".")[2]: _checked(vectors, name, length)
            for name, length in vector_lengths([shape], products=products).items()
        }
        half = fields.get("products")
        found[shape] = Moments(
            _count(float(fields["count"])),
            fields["total"],
            fields["squares"],
            None if half is None else read_triangle(half, shape[0]),
        )
    return found


def check_moments(
    moments: Moments, shape: Shape, most: float, longest_key: float
) -> None:
    """Refuse moments that no rows can have, or longer keys than any edit's.

    Args:
        moments: Of one party, or of all together.
        shape: Theirs.
        most: Rows that there can be.
        longest_key: Bound of the root mean square of ``‖k‖``.

    Raises:
        StatisticsError: Saying what is impossible.
    """
    if moments.count > most:
        raise StatisticsError(
            f"Moments of {moments.count} answer tokens were sent, and {most:g} are the "
            "most that the settings allow (`parties.requests-per-round`)."
        )
    squares = moments.count * moments.squares * (1 + ROUNDING)
    possible = moments.total.square() <= squares + ROUNDING
    if not bool((possible & squares.isfinite()).all()):
        raise StatisticsError(
            "A square of a mean exceeds the mean of squares, as none can."
        )
    longest = float(moments.squares[: shape[1]].sum())
    if longest > max(moments.count, 1) * longest_key**2:
        raise StatisticsError(
            "Keys are longer than any edit's in the root mean square, over "
            f"{longest_key:.3g} (`run.max-key-ratio`)."
        )
    if moments.products is not None:
        check_semidefinite(moments.products)
        gap = moments.products.diagonal() - moments.squares[shape[1] :]
        if float(gap.abs().max()) > ROUNDING * float(moments.squares.max()) + ROUNDING:
            raise StatisticsError(
                "The gradients' outer products do not go with their squares."
            )


def _checked(vectors: Mapping[str, Tensor], name: str, length: int) -> Tensor:
    found = vectors.get(name)
    if found is None or tuple(found.shape) != (length,):
        raise StatisticsError(
            f"`{name}` of {length} numbers was wanted, and the moments hold "
            f"{'none' if found is None else 'others'}."
        )
    if not found.is_floating_point() or not bool(found.isfinite().all()):
        raise StatisticsError(f"`{name}` must be of finite numbers.")
    return found.double()


def _count(value: float) -> int:
    """Read a number of rows, which masks may have rounded.

    Raises:
        StatisticsError: If it is no whole number, or beyond any text's.
    """
    near = round(value)
    if not 0 <= near <= MOST_ROWS or abs(value - near) > 1e-6:
        raise StatisticsError(f"A count of answer tokens is {value:.6g}.")
    return near
