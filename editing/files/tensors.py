"""Safetensors files that are equal, byte for byte, if what is in them is equal."""

import json
import struct
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
"""The numbers after a header begin at a multiple of this many bytes."""


def save_sorted(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Write tensors with a sorted header; the library writes metadata in any order.

    Args:
        tensors: By name, contiguous.
        metadata: Texts by name.
    """
    data = save(dict(tensors), dict(metadata))
    (length,) = _LENGTH.unpack_from(data)
    begin = _LENGTH.size
    header = json.loads(data[begin : begin + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    written = text.encode()
    written += b" " * (-len(written) % _ALIGNMENT)
    return _LENGTH.pack(len(written)) + written + data[begin + length :]
