"""Files of one layer's statistics: float64 tensors, and labels that say whose they are.

Only the owner may read them: statistics tell whether a guessed subject was edited.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.algebra.second_moments import read_triangle, write_triangle
from editing.algebra.statistics import LayerStatistics, Sums
from editing.base.errors import InputError
from editing.files.atomic import PRIVATE_FILE, partial_file

KEYS, RESIDUALS, GRAM, CROSS, COUNT = "keys", "residuals", "gram", "cross", "count"

SUM, LAYER, PARTY, PARTIES = "sum", "layer", "party", "parties"
"""Labels: a secure sum's digest, a layer of it, who added the file, and all who did."""

Labels = Mapping[str, str]


def save_statistics(
    part: LayerStatistics, path: Path, labels: Labels | None = None
) -> None:
    """Write a file that only its owner may read; its folder exists.

    Args:
        part: The rows, the sums of others, or both.
        path: The file.
        labels: What it is of.
    """
    tensors = {KEYS: part.keys, RESIDUALS: part.residuals}
    if part.sums is not None:
        tensors |= {GRAM: write_triangle(part.sums.gram), CROSS: part.sums.cross}
    whole = {name: each.contiguous() for name, each in tensors.items()}
    with partial_file(path, PRIVATE_FILE) as file:
        save_file(whole, file, {**(labels or {}), COUNT: str(part.count)})


def read_labels(path: Path) -> dict[str, str]:
    """Read what a file is of; one that is none is an `InputError`."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise _broken(path, error) from None


def load_statistics(path: Path, widths: tuple[int, int]) -> LayerStatistics:
    """Undo `save_statistics`.

    Args:
        path: The file.
        widths: ``(d_out, d_in)`` of the layer.

    Raises:
        InputError: If it holds something else, or is of another layer.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            count = int((file.metadata() or {})[COUNT])
        part = _from_tensors(tensors, count)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _broken(path, error) from None
    if (part.residuals.shape[1], part.keys.shape[1]) != widths:
        raise InputError(
            f"{path}: statistics of a layer {widths[0]} × {widths[1]} "
            "were wanted; it is of another model"
        )
    return part


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: holds no statistics of a party ({type(error).__name__}); it was "
        "changed after the run"
    )


def _from_tensors(tensors: Mapping[str, Tensor], count: int) -> LayerStatistics:
    keys, residuals = tensors[KEYS], tensors[RESIDUALS]
    if keys.dim() != 2 or residuals.dim() != 2:
        raise ValueError("keys and residuals are rows")
    (rows, d_in), d_out = keys.shape, residuals.shape[1]
    for name, each in tensors.items():
        wanted = {
            KEYS: (rows, d_in),
            RESIDUALS: (rows, d_out),
            GRAM: (d_in * (d_in + 1) // 2,),
            CROSS: (d_out, d_in),
        }.get(name)
        if each.dtype != torch.float64 or each.shape != wanted:
            raise ValueError(f"`{name}` is {tuple(each.shape)} in {each.dtype}")
    if count < 0:
        raise ValueError(f"it counts {count} edits")
    sums = None
    if GRAM in tensors:
        sums = Sums(read_triangle(tensors[GRAM], d_in), tensors[CROSS])
    return LayerStatistics(keys, residuals, count, sums)
