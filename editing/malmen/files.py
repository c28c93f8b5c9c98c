"""A hypernetwork's file: its tensors as safetensors, its shape in the header."""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from editing.base.validation import explain
from editing.files.atomic import write_whole
from editing.files.tensors import save_sorted
from editing.files.text import explain_text_error
from editing.malmen.hypernetwork import (
    RATES,
    RIDGES,
    SCALE,
    Hypernetwork,
    HypernetworkError,
    HypernetworkShape,
)

FILE = "hypernetwork.safetensors"
"""Its name in a model's folder."""

SHAPE = "hypernetwork"
"""Where the header has the shape, as JSON."""

_PRECISIONS = {"F32": torch.float32, "F64": torch.float64}


def save_hypernetwork(net: Hypernetwork, path: Path) -> None:
    """Write it, whole or not at all: equal hypernetworks give equal bytes."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in net.tensors.items()}
    texts = {SHAPE: net.shape.model_dump_json()}
    write_whole(path, save_sorted(tensors, texts))


def read_hypernetwork(path: Path) -> Hypernetwork:
    """Undo `save_hypernetwork`; no number is read of a file of other sizes.

    Raises:
        HypernetworkError: If there is no such file, its header and its tensors do not
            go together, or a number in it is none that can be used.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shape = _read_shape(path, (file.metadata() or {}).get(SHAPE))
            names = list(file.keys())
            parts = {name: file.get_slice(name) for name in names}
            _check_sizes(
                path,
                shape,
                {name: tuple(each.get_shape()) for name, each in parts.items()},
            )
            _check_precision(path, {n: str(p.get_dtype()) for n, p in parts.items()})
            tensors = {name: file.get_tensor(name) for name in shape.sizes()}
    except (OSError, SafetensorError) as error:
        raise HypernetworkError(
            f"{path}: no hypernetwork can be read ({explain_text_error(error)}). "
            f"Wanted the {FILE} that training wrote."
        ) from None
    _check_numbers(path, tensors)
    return Hypernetwork(shape, tensors)


def _read_shape(path: Path, text: str | None) -> HypernetworkShape:
    """Read the shape of the header.

    Raises:
        HypernetworkError: If it is missing, or none.
    """
    if text is None:
        raise HypernetworkError(
            f"{path}: its header has no `{SHAPE}`. Is it a delta, or a model's "
            f"weights? Name the {FILE} that training wrote."
        )
    try:
        return HypernetworkShape.model_validate_json(text)
    except ValidationError as error:
        raise HypernetworkError(f"{path}: `{SHAPE}`: {explain(error)}") from None


def _check_sizes(
    path: Path, shape: HypernetworkShape, found: dict[str, tuple[int, ...]]
) -> None:
    """Compare names and sizes with the header's shape.

    Raises:
        HypernetworkError: Naming the first tensor that is another.
    """
    if len(found) != shape.tensor_count:
        raise HypernetworkError(
            f"{path}: has {len(found)} tensors, and a hypernetwork of {shape.blocks} "
            f"blocks has {shape.tensor_count}. It was changed after it was written."
        )
    for name, size in shape.sizes().items():
        if found.get(name) != size:
            got = found.get(name, "missing")
            raise HypernetworkError(
                f"{path}: `{name}` is {got}, and its header wants {size}. It was "
                "changed after it was written."
            )


def _check_precision(path: Path, kinds: dict[str, str]) -> None:
    """Refuse tensors of several precisions, or of other numbers.

    Raises:
        HypernetworkError: Naming what came.
    """
    if len({*kinds.values()}) != 1 or not {*kinds.values()} <= _PRECISIONS.keys():
        listed = ", ".join(sorted({*kinds.values()}))
        raise HypernetworkError(
            f"{path}: holds numbers of the kind {listed}; wanted F32 or F64 alone."
        )


def _check_numbers(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse numbers that no training leaves.

    Raises:
        HypernetworkError: Naming the tensor.
    """
    for name, each in tensors.items():
        if not bool(each.isfinite().all()):
            raise HypernetworkError(
                f"{path}: `{name}` has entries that are not finite."
            )
    if not bool((tensors[SCALE] > 0).all()):
        raise HypernetworkError(
            f"{path}: `{SCALE}` has entries that are not positive, and keys and "
            "gradients are divided by them."
        )
    for name in (RATES, RIDGES):
        power = tensors[name].double().exp()
        if not bool(((power > 0) & power.isfinite()).all()):
            raise HypernetworkError(
                f"{path}: `{name}` has entries whose exponential is 0 or infinite."
            )
