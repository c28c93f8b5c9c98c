"""Apply deltas to a model for a while, and keep them in files."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from editing.algebra.fingerprints import fingerprint_tensors
from editing.base.errors import InputError
from editing.files.atomic import write_whole
from editing.files.tensors import save_sorted
from editing.files.text import parse_json

PRECISIONS = frozenset({"F64", "F32", "F16", "BF16"})
"""What numbers an update may be of, as safetensors names them."""

Delta = Mapping[str, Tensor]
"""Updates by parameter name, each ``d_out × d_in`` whatever the module stores."""


def stores_transposed(module: nn.Module) -> bool:
    """Return whether a module stores its weight transposed, by its type alone.

    ``nn.Linear`` keeps ``d_out × d_in``; transformers' ``Conv1D`` keeps the transpose.

    Raises:
        TypeError: If the type is neither.
    """
    if isinstance(module, nn.Linear):
        return False
    if any(
        kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")
        for kind in type(module).__mro__
    ):
        return True
    raise TypeError(
        f"Cannot edit a {type(module).__name__}: only nn.Linear and transformers' "
        "Conv1D have a known orientation."
    )


@contextmanager
def applied(delta: Delta, model: nn.Module) -> Iterator[nn.Module]:
    """Add ``delta`` to ``model`` within the block; restore it bit for bit.

    Each update is cast once, to the weight's precision, and added. One of another
    shape than its weight is refused with a `ValueError`, before anything is changed.
    """
    updates = {name: stored_way(name, update, model) for name, update in delta.items()}
    weights = {name: model.get_parameter(name) for name in delta}
    saved = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(updates[name].to(weight))
        yield model
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(saved[name])


def add_deltas(first: Delta, second: Delta) -> dict[str, Tensor]:
    """Sum two deltas; a weight that only one of them changes counts as zero there."""
    total = dict(first)
    for name, update in second.items():
        total[name] = total[name] + update if name in total else update
    return total


def relative_difference(delta: Delta, reference: Delta) -> float:
    """Largest over weights of ``‖delta − reference‖ / ‖reference‖`` (Frobenius).

    Equal updates differ by 0, also where both are zero.
    """
    gaps = [_gap(delta[name], update) for name, update in reference.items()]
    return float(torch.tensor(gaps, dtype=torch.float64).max())  # NaN if one is


def _gap(update: Tensor, reference: Tensor) -> float:
    whole = reference.double()
    distance = (update.double() - whole).norm()
    return float(distance / whole.norm()) if distance != 0 else 0.0


def save_delta(delta: Delta, path: Path, metadata: Mapping[str, object]) -> None:
    """Write a delta in float32, whole or not at all.

    Equal deltas with equal metadata are equal files, byte for byte.

    Args:
        delta: Updates by parameter name.
        path: The file to write.
        metadata: JSON values: base fingerprint, merge, schedule, rounds.
    """
    tensors = {k: v.detach().cpu().float().contiguous() for k, v in delta.items()}
    texts = {key: json.dumps(value, allow_nan=False) for key, value in metadata.items()}
    write_whole(path, save_sorted(tensors, texts))


def load_delta(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a delta file and its metadata; a `ValueError` explains a failure."""
    file = open_delta(path)
    return {name: file.read(name) for name in file.shapes}, dict(file.metadata)


@dataclass(frozen=True, slots=True)
class DeltaFile:
    """A delta file of which one update at a time is in memory.

    Attributes:
        path: The delta file.
        metadata: What made it.
        shapes: ``(d_out, d_in)`` of each update, in order of their names.
    """

    path: Path
    metadata: Mapping[str, object]
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, name: str) -> Tensor:
        """Read one update, ``d_out × d_in``."""
        with safe_open(self.path, framework="pt") as file:
            update: Tensor = file.get_tensor(name)
        return update

    def fingerprint(self) -> str:
        """SHA-256 of names and values, whatever the order of bytes in the file."""
        return fingerprint_tensors((name, self.read(name)) for name in self.shapes)


def open_delta(path: Path) -> DeltaFile:
    """Read the metadata and shapes of a delta file, and none of its values.

    Raises:
        InputError: If the file is missing or no delta file; an update that is no
            matrix of real numbers is refused likewise.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            names = sorted(file.keys())
            parts = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(parts[name].get_shape()) for name in names}
            kinds = {name: str(parts[name].get_dtype()) for name in names}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: no delta file can be read ({error}). Wanted the "
            "delta.safetensors of a run."
        ) from None
    for name in names:
        _check_update(path, name, shapes[name], kinds[name])
    metadata = {key: _value_of(texts[key]) for key in sorted(texts)}
    return DeltaFile(path, metadata, shapes)


def _check_update(path: Path, name: str, shape: tuple[int, ...], kind: str) -> None:
    """Refuse what is no matrix of real numbers.

    Raises:
        InputError: Naming the update and what came.
    """
    if len(shape) != 2 or 0 in shape:
        raise InputError(
            f"{path}: `{name}` is {shape}; wanted a matrix, d_out × d_in. Is this the "
            "delta.safetensors of a run?"
        )
    if kind not in PRECISIONS:
        raise InputError(
            f"{path}: `{name}` holds numbers of the kind {kind}; wanted one of "
            f"{', '.join(sorted(PRECISIONS))}. Is this the delta.safetensors of a run?"
        )


def _value_of(text: str) -> object:
    """Return a JSON value; what is none, or no finite number, stays a text."""
    try:
        return parse_json(text, parse_constant=_refuse_constant)
    except ValueError:
        return text


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no finite number")


def check_shape(name: str, shape: tuple[int, ...], model: nn.Module) -> bool:
    """Check that an update fits the weight that it names.

    Returns:
        Whether the module stores the transpose of ``d_out × d_in``.

    Raises:
        ValueError: If the model has no such weight, or one of another shape.
    """
    owner, _, _ = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
        weight = model.get_parameter(name)
    except AttributeError:
        raise ValueError(
            f"The delta changes `{name}`, which this model does not have. Was it made "
            "for another model?"
        ) from None
    transposed = stores_transposed(module)
    wanted = tuple(weight.mT.shape if transposed else weight.shape)
    if shape != wanted:
        raise ValueError(
            f"The delta of `{name}` is {shape}, and the weight wants {wanted} "
            "(d_out × d_in)."
        )
    return transposed


def stored_way(name: str, update: Tensor, model: nn.Module) -> Tensor:
    """Orient an update as its module stores the weight.

    A `ValueError` says so if it does not fit the model.
    """
    return update.mT if check_shape(name, tuple(update.shape), model) else update
