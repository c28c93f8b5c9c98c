"""Digests of weights, by which two copies of a model are told apart."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """By what a model is known.

    Attributes:
        weights: SHA-256 of its parameters as loaded, as `fingerprint_model` has it.
        tokenizer: SHA-256 of how its tokenizer cuts.
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


def fingerprint_tensors(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of tensors as they come: name, precision, shape and bits of each."""
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().view(torch.uint8)
        digest.update(flat.numpy().data)
    return digest.hexdigest()
