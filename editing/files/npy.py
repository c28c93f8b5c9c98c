"""Arrays as NumPy writes them, whose headers are checked before their numbers are read.

A header of a hundred bytes can name terabytes, and an archive of three megabytes can
hold three gigabytes of zeros.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt

NUMBERS = frozenset("fiu")
"""NumPy's kinds of real numbers."""

ANY_NUMBERS = NUMBERS | {"c", "b"}
"""Complex numbers and flags too."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What the header of an array says.

    Attributes:
        shape: The array's.
        dtype: Of its numbers.
        fortran: Whether columns lie together, and not rows.
        start: Bytes before the first number.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    start: int


Check = Callable[[ArrayHeader], None]
"""Refuses an array by its header, with a `ValueError`."""


def read_header(
    stream: BufferedIOBase, size: int, kinds: Collection[str] = NUMBERS
) -> ArrayHeader:
    """Read the header at the beginning of a stream, and no number.

    Args:
        stream: Stands at the beginning of the array.
        size: Bytes of the whole array, its header included.
        kinds: NumPy's kinds of numbers that are read.

    Raises:
        ValueError: If it is none, is of other numbers, or names another size.
    """
    begin = stream.tell()
    try:
        shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # NumPy has Python parse the header
        raise ValueError(f"it has no header of an array ({error})") from None
    start = stream.tell() - begin
    if dtype.kind not in kinds:
        kind = "objects" if dtype.hasobject else dtype.name
        raise ValueError(f"it holds {kind} instead of numbers")
    if any(each < 0 for each in shape):
        raise ValueError(f"its header names the shape {shape}")
    named = start + math.prod(shape) * dtype.itemsize
    if named != size:
        raise ValueError(
            f"its header names {named} bytes for the shape {shape}, and it has {size}"
        )
    return ArrayHeader(shape, dtype, fortran, start)


def read_array(
    stream: BufferedIOBase,
    size: int,
    check: Check | None = None,
    kinds: Collection[str] = NUMBERS,
) -> npt.NDArray[np.generic]:
    """Read an array, once its header is accepted.

    Args:
        stream: Stands at the beginning of the array.
        size: Bytes of the whole array, its header included.
        check: Refuses by the header what is not wanted.
        kinds: NumPy's kinds of numbers that are read.

    What is no array of such numbers, or not of the size that its header names, is a
    `ValueError`; `check` may raise more.
    """
    header = read_header(stream, size, kinds)
    if check is not None:
        check(header)
    data = stream.read(size - header.start)
    flat = np.frombuffer(data, header.dtype).copy()
    return flat.reshape(header.shape, order="F" if header.fortran else "C")
