"""Digests of weights and settings, to compare two copies of a model."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BOOKKEEPING = frozenset(
    {
        *("_name_or_path", "transformers_version", "architectures"),
        *("dtype", "torch_dtype", "initializer_range"),  # the weights show them
        *("use_cache", "return_dict", "output_hidden_states", "output_attentions"),
        *("id2label", "label2id", "problem_type", "task_specific_params"),
        *("bos_token_id", "eos_token_id", "pad_token_id"),
    }
)
"""Entries of a model's configuration that do not change what it computes."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Digests that identify a model.

    Attributes:
        weights: SHA-256 of its parameters as loaded, as `fingerprint_model` has it.
        tokenizer: SHA-256 of how its tokenizer tokenizes.
    """

    weights: str
    tokenizer: str


def fingerprint_model(model: nn.Module, dtype: torch.dtype | None = None) -> str:
    """SHA-256 of names, precision and values of all parameters, in order of names.

    Args:
        model: Whose parameters; tied ones count once, buffers do not.
        dtype: Digest them as this precision would hold them, one at a time, instead
            of as they are.
    """
    named = sorted(dict(model.named_parameters()).items())
    return fingerprint_tensors(
        (name, each if dtype is None else each.to(dtype)) for name, each in named
    )


def fingerprint_configuration(configuration: Mapping[str, object]) -> str:
    """SHA-256 of the entries of a configuration that change what a model computes.

    Two models with the same weights differ by it in activations, norms or positions.

    Args:
        configuration: As `transformers` writes it to ``config.json``.
    """
    return hashlib.sha256(json.dumps(_computed(configuration)).encode()).hexdigest()


def _computed(value: object) -> object:
    """Leave the bookkeeping out, at every depth, and put the rest in order."""
    if isinstance(value, Mapping):
        items = sorted((str(key), each) for key, each in value.items())
        return {key: _computed(each) for key, each in items if key not in BOOKKEEPING}
    if isinstance(value, list | tuple):
        return [_computed(each) for each in value]
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else str(value)


def fingerprint_tensors(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of tensors as they come: name, precision, shape and bits of each."""
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().view(torch.uint8)
        digest.update(flat.numpy().data)
    return digest.hexdigest()
