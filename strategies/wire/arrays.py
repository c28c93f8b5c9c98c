"""Tensors on the wire, and digests by which copies are compared."""

import hashlib
from collections.abc import Mapping
from io import BytesIO

import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from editing.files.npy import ANY_NUMBERS, read_array

RAW = "collabedit.raw"
"""Marks arrays whose precision numpy does not know."""


def to_array(tensor: Tensor) -> Array:
    """Write a tensor in its own precision."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype != torch.bfloat16:
        return Array(plain.numpy())
    data = plain.view(torch.int16).numpy().tobytes()
    return Array(dtype="bfloat16", shape=tuple(plain.shape), stype=RAW, data=data)


def to_tensor(array: Array) -> Tensor:
    """Undo `to_array`; nothing is allocated for numbers that are not there.

    What it does not write may be any error.
    """
    if array.stype != RAW:
        held = read_array(BytesIO(array.data), len(array.data), kinds=ANY_NUMBERS)
        return torch.from_numpy(held)
    if not array.data:
        return torch.empty(tuple(array.shape), dtype=torch.bfloat16)
    flat = torch.frombuffer(bytearray(array.data), dtype=torch.bfloat16)
    return flat.reshape(tuple(array.shape))


def read_numbers(array: Array) -> Tensor:
    """Read an array of floating-point numbers, as all that travels are.

    Raises:
        ValueError: If it is of others.
    """
    tensor = to_tensor(array)
    if not tensor.is_floating_point():
        raise ValueError(f"an array is of {tensor.dtype}")
    return tensor


def write_delta(delta: Mapping[str, Tensor], dtype: torch.dtype) -> ArrayRecord:
    """Write updates, by parameter name, in the precision of the weights.

    An update is cast to that of its weight before it is added, so nothing is lost.
    Files hold single precision: what is coarser is rounded as from there, so that the
    parties edit the model that the file makes.
    """
    wide = dtype if dtype == torch.float64 else torch.float32
    return ArrayRecord(
        {name: to_array(update.to(wide).to(dtype)) for name, update in delta.items()}
    )


def to_tensors(record: ArrayRecord) -> dict[str, Tensor]:
    """Read arrays as tensors, under their names."""
    return {name: to_tensor(array) for name, array in record.items()}


def digest_array(array: Array) -> str:
    """SHA-256 of precision, shape and values."""
    digest = hashlib.sha256(f"{array.dtype} {list(array.shape)} ".encode())
    digest.update(array.data)
    return digest.hexdigest()


def digests_of(arrays: ArrayRecord) -> dict[str, str]:
    """The digest of each array, by name."""
    return {name: digest_array(array) for name, array in sorted(arrays.items())}


def digest_all(digests: Mapping[str, str]) -> str:
    """One digest for arrays with these names and digests; of none, that of nothing."""
    digest = hashlib.sha256()
    for name, each in sorted(digests.items()):
        digest.update(f"{name} {each}\n".encode())
    return digest.hexdigest()


def digest_arrays(arrays: ArrayRecord) -> str:
    """One digest of named arrays."""
    return digest_all(digests_of(arrays))
