"""Published sums as they lie on disk: mapped, and in their own precision.

A float64 copy of a sum that was published in float32 takes twice the file, and all of
it at all times. Mapped, it takes what is being read, which the system may drop again.
"""

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from editing.files.npy import Check, read_array, read_header

_LOCAL_HEADER = 30
"""Bytes of a zip member's own header, before its name and its extra field."""

_CHUNK = 2**26

_SMALL, _DENSEST = 2**22, 50
"""An array of more bytes is not packed better than this; numbers that were measured
hardly shrink, and constants by a thousand."""


@dataclass(frozen=True, slots=True)
class PublishedSum:
    """The sum of ``k kᵀ`` over the tokens of a text.

    Attributes:
        total: In the precision of its file; do not write to it.
        tokens: Number of tokens summed.
    """

    total: Float[Tensor, "d_in d_in"]
    tokens: int

    def mean(self) -> Float[Tensor, "d_in d_in"]:
        """Compute ``C₀`` in float64, anew."""
        return self.total.to(torch.float64, copy=True).div_(self.tokens)


class PublishedMeans(Mapping[int, Tensor]):
    """``C₀`` by layer, computed from the mapped sum each time that it is asked for.

    Attributes:
        sums: What the means are made of.
    """

    def __init__(self, sums: Mapping[int, PublishedSum]) -> None:
        """Take the sums by layer."""
        self.sums = dict(sums)

    def __getitem__(self, layer: int) -> Float[Tensor, "d_in d_in"]:
        """Compute a layer's mean, in float64."""
        return self.sums[layer].mean()

    def __iter__(self) -> Iterator[int]:
        """Name the layers."""
        return iter(self.sums)

    def __len__(self) -> int:
        """Count them."""
        return len(self.sums)


def read_member(path: Path, name: str, check: Check | None = None) -> np.ndarray:
    """Read an array of an ``.npz`` file; map it if it is stored as it is.

    Args:
        path: The archive.
        name: The array's name in it.
        check: Refuses an array by its header, before any number is read.

    Raises:
        BadZipFile: If the archive is damaged.
        ValueError: If there is no array of real numbers of that name, or one of
            another size than its header names; `check` may raise more.
    """
    with ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise ValueError(f"it has no array `{name}`")
        member = archive.getinfo(f"{name}.npy")
        if member.file_size > max(_SMALL, _DENSEST * member.compress_size):
            raise ValueError(
                f"`{name}` takes {member.compress_size} bytes and would take "
                f"{member.file_size} in memory; no such sum can be packed so well"
            )
        if member.compress_type != ZIP_STORED:
            try:
                with archive.open(member) as packed:
                    stream = cast(BufferedIOBase, packed)
                    return read_array(stream, member.file_size, check)
            except zlib.error as error:
                raise BadZipFile(str(error)) from None
    with path.open("rb") as opened:
        opened.seek(member.header_offset)
        header = opened.read(_LOCAL_HEADER)
        sizes = [int.from_bytes(header[at : at + 2], "little") for at in (26, 28)]
        start = opened.seek(sum(sizes), os.SEEK_CUR)
        found = read_header(opened, member.file_size)
        if check is not None:
            check(found)
        opened.seek(start)
        _check_bytes(opened, member)
        # Copied where written to: torch takes no memory that it may not write to.
        place, order = start + found.start, "F" if found.fortran else "C"
        return np.memmap(opened, found.dtype, "c", place, found.shape, order)  # type: ignore[call-overload,no-any-return]


def _check_bytes(opened: IO[bytes], member: ZipInfo) -> None:
    """Compute the checksum of a member, as its archive has it.

    Raises:
        BadZipFile: If its bytes are not those that were written.
    """
    found = 0
    for left in range(member.file_size, 0, -_CHUNK):
        found = zlib.crc32(opened.read(min(_CHUNK, left)), found)
    if found != member.CRC:
        raise BadZipFile(f"the bytes of {member.filename} are not those written")
