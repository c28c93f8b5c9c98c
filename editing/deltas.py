"""Lend a model with a delta added, and keep deltas in files."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

Delta = Mapping[str, Tensor]
"""Updates by parameter name, each ``d_out × d_in`` whatever the module stores."""


def stores_transposed(module: nn.Module) -> bool:
    """Tell a weight's orientation from the module's type, never from its shape.

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
    """Add ``delta`` to ``model`` within the block; give it back bit for bit.

    Each update is cast once, to the weight's precision, and added. One of another
    shape than its weight is refused with a `ValueError`, before anything is changed.
    """
    updates = {name: _stored_way(name, update, model) for name, update in delta.items()}
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
    """Largest over weights of ``‖delta − reference‖ / ‖reference‖`` (Frobenius)."""
    gaps = [
        ((delta[name].double() - update.double()).norm() / update.double().norm())
        for name, update in reference.items()
    ]
    return max(float(gap) for gap in gaps)


def save_delta(delta: Delta, path: Path, metadata: Mapping[str, object]) -> None:
    """Write a delta in float32, beside its place first, then renamed.

    Args:
        delta: Updates by parameter name.
        path: The file to write.
        metadata: JSON values: base fingerprint, merge, schedule, rounds.
    """
    tensors = {k: v.detach().cpu().float().contiguous() for k, v in delta.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(save(tensors, texts))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_delta(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a delta file and its metadata.

    Raises:
        ValueError: If the file is missing or no delta file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path}: no delta file can be read ({error}). Wanted the "
            "delta.safetensors of a run."
        ) from None
    return tensors, {key: _value_of(text) for key, text in texts.items()}


def _value_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _stored_way(name: str, update: Tensor, model: nn.Module) -> Tensor:
    owner, _, _ = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
        weight = model.get_parameter(name)
    except AttributeError:
        raise ValueError(
            f"The delta changes `{name}`, which this model does not have. Was it made "
            "for another model?"
        ) from None
    wanted = weight.mT.shape if stores_transposed(module) else weight.shape
    if update.shape != wanted:
        raise ValueError(
            f"The delta of `{name}` is {tuple(update.shape)}, and the weight wants "
            f"{tuple(wanted)} (d_out × d_in)."
        )
    return update.mT if stores_transposed(module) else update
