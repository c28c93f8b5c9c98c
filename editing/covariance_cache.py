"""Covariances that are read, or computed once and kept."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from editing.architectures import EditableModel
from editing.covariance import (
    Covariance,
    compute_covariance,
    load_covariance,
    save_covariance,
)
from editing.embedded import resolve_source
from editing.errors import InputError


def find_covariance(
    model: EditableModel,
    layers: tuple[int, ...],
    named: str | None,
    text: str,
    model_path: str,
    on_tokens: Callable[[int], None] | None = None,
    threads: int | None = None,
) -> Covariance:
    """Read the covariance that is named, or compute it once and keep it.

    A computed one is kept in the user's cache folder under a digest of model, text and
    layers, so that it is found only where it is right. Its last bits depend on the
    number of threads: machines that must have the same ones fix it, and a covariance of
    a fixed number is kept apart from the others.

    Args:
        model: Whose keys are averaged.
        layers: Those to be edited.
        named: A file, or a JSON list of MEMIT's files; None computes.
        text: A file of text, or ``embedded`` for the model's own.
        model_path: Where the model's own text lies.
        on_tokens: Told the number of tokens done.
        threads: How many processor threads compute; None takes those there are.
    """
    if named is not None:
        return load_covariance(_named_files(named), layers)
    file = resolve_source(text, model_path, "text.txt", "prior.text")
    documents = _read_documents(file)
    name = f"{_digest(model, documents, layers, threads)}.safetensors"
    kept = user_cache() / "covariance" / name
    if kept.is_file():
        return load_covariance([kept], layers)
    with _limited_to(threads):
        found = compute_covariance(
            model, documents, layers, dataset=file.name, on_batch=on_tokens
        )
    save_covariance(found, kept)
    return found


def digest_covariance(covariance: Covariance, layers: Sequence[int]) -> str:
    """SHA-256 of the moments of some layers, to the last bit."""
    digest = hashlib.sha256()
    for layer in sorted(layers):
        digest.update(f"{layer}:".encode())
        moment = covariance.moments[layer].detach().cpu().double().contiguous()
        digest.update(moment.numpy().tobytes())
    return digest.hexdigest()


def _named_files(setting: str) -> list[Path]:
    """One file, or a JSON list of them.

    Raises:
        InputError: If the list is broken.
    """
    if not setting.startswith("["):
        return [Path(setting)]
    try:
        return [Path(str(name)) for name in json.loads(setting)]
    except ValueError as error:
        raise InputError(
            f"`prior.covariance`: wanted a file or a JSON list of files ({error})."
        ) from None


def _read_documents(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text ({error}).") from None


def user_cache() -> Path:
    """The folder of the user's cache that is ours."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "collabedit-flower"


def _digest(
    model: EditableModel,
    documents: list[str],
    layers: tuple[int, ...],
    threads: int | None,
) -> str:
    fixed = "" if threads is None else f" {threads} threads"
    digest = hashlib.sha256(f"{model.fingerprint} {layers}{fixed}".encode())
    for document in documents:
        digest.update(document.encode() + b"\n")
    return digest.hexdigest()


@contextmanager
def _limited_to(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
