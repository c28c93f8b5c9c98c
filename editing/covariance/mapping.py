"""Published sums as they lie on disk: mapped, and in their own precision.

A float64 copy of a sum that was published in float32 takes twice the file, and all of
it at all times. Mapped, it takes what is being read, which the system may drop again.
"""

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_LOCAL_HEADER = 30
"""Bytes of a zip member's own header, before its name and its extra field."""

_CHUNK = 2**26


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


def read_array(path: Path, name: str) -> np.ndarray:
    """Read an array of an ``.npz`` file; map it if it is stored as it is.

    Args:
        path: The archive.
        name: The array's name in it.
    """
    with ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
    if member.compress_type != ZIP_STORED:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[name])
    with path.open("rb") as opened:
        opened.seek(member.header_offset)
        header = opened.read(_LOCAL_HEADER)
        sizes = [int.from_bytes(header[at : at + 2], "little") for at in (26, 28)]
        start = opened.seek(sum(sizes), os.SEEK_CUR)
        _check_bytes(opened, member)
        opened.seek(start)
        return _map(opened)


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


def _map(opened: IO[bytes]) -> np.ndarray:
    """Map the array that begins where a file was read to.

    Raises:
        ValueError: If it holds objects instead of numbers.
    """
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = read[np.lib.format.read_magic(opened)](opened)
    if dtype.hasobject:
        raise ValueError("it holds objects instead of numbers")
    order: Literal["C", "F"] = "F" if fortran else "C"
    # Copied where written to: torch takes no memory that it may not write to.
    return np.memmap(opened, dtype, "c", opened.tell(), shape, order)
