"""Covariances that are read from files, or estimated once and cached."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import torch

from editing.base.errors import InputError
from editing.covariance.covariance import (
    Covariance,
    CovarianceError,
    compute_covariance,
    default_tokens,
    with_ridge,
)
from editing.covariance.estimation import BATCH_TOKENS, WINDOW_BATCHES
from editing.covariance.files import load_covariance, save_covariance
from editing.covariance.texts import TextSource, open_text
from editing.covariance.windows import read_windows
from editing.files.caches import user_cache
from editing.files.text import parse_json
from editing.models.loading import EditableModel
from editing.sources.embedded import HUB, SELF

logger = logging.getLogger(__name__)

VERSION = "estimated in windows, version 4"
"""Changes whenever the same text would give other bits."""


def find_covariance(
    model: EditableModel,
    layers: tuple[int, ...],
    named: str | Sequence[str] | None,
    text: str,
    model_path: str,
    on_tokens: Callable[[int], None] | None = None,
    threads: int | None = None,
    tokens: int | None = None,
) -> Covariance:
    """Read the named covariance, or estimate it once and cache it.

    The cache is a folder of the user's. A covariance is found there by a digest of the
    model, its kind of device, the layers and the tokens of the text, which is therefore
    tokenized before the model runs. The last bits depend on the number of threads:
    machines that must agree fix it, and each fixed number has a covariance of its own.
    A cache that cannot be written is a warning, given before the text is read.

    Args:
        model: The model whose keys are averaged.
        layers: The edited layers.
        named: A file, a folder of published statistics, or a list of MEMIT's files,
            which may be written as JSON; None computes.
        text: See `open_text`.
        model_path: The model's folder, which holds its own text.
        on_tokens: Called with the number of tokens done.
        threads: How many CPU threads to use; None uses torch's number.
        tokens: Tokens after which to stop; None reads all of a file, and
            `default_tokens` where a text has no end of its own.
    """
    if named is not None:
        return load_covariance(_named_files(named), layers, model)
    source = open_text(text, model, model_path)
    if tokens is None and (text == SELF or text.startswith(HUB)):
        tokens = default_tokens(model, layers)
    name = f"{_digest(model, source, layers, threads, tokens)}.safetensors"
    kept = user_cache() / "covariance" / name
    if found := _read_kept(kept, layers):
        return found
    writable = _check_writable(kept.parent)
    with _limited_to(threads):
        estimated = compute_covariance(
            model,
            source.stream(0),
            layers,
            dataset=source.name,
            on_batch=on_tokens,
            limit=tokens,
        )
        found = with_ridge(estimated)
    if writable:
        _keep(found, kept)
    _warn_about_ridges(found)
    return found


def _read_kept(kept: Path, layers: Sequence[int]) -> Covariance | None:
    """Read a covariance from the cache; None if it is not there, or damaged."""
    try:
        return load_covariance([kept], layers) if kept.is_file() else None
    except (OSError, CovarianceError) as error:
        logger.warning(
            "The cached covariance is damaged and estimated again: %s", error
        )
        return None


def _check_writable(folder: Path) -> bool:
    """Return whether a folder admits new files, before hours are spent; else warn."""
    probe = folder / f".{uuid4().hex[:8]}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        _warn_about_cache(folder, error.strerror or str(error))
        return False
    return True


def _keep(covariance: Covariance, kept: Path) -> None:
    try:
        save_covariance(covariance, kept)
    except CovarianceError as error:
        _warn_about_cache(kept.parent, str(error))


def _warn_about_cache(folder: Path, reason: str) -> None:
    logger.warning(
        "The covariance cannot be kept in %s (%s), so every run estimates it again. "
        "Let XDG_CACHE_HOME name a folder that can be written, or estimate it once "
        "with `python -m sims covariance` and name that file in `prior.covariance`.",
        folder,
        reason,
    )


def _warn_about_ridges(covariance: Covariance) -> None:
    made = covariance.provenance
    for layer, ridge in made.ridges.items():
        if not ridge:
            continue
        width, rank = len(covariance.moments[layer]), made.ranks[layer]
        logger.warning(
            "The covariance of layer %d over %d tokens has rank %d of %d: %s",
            layer,
            made.tokens,
            rank,
            width,
            f"{width - rank} directions are never used, and a ridge of {ridge:.3g} is "
            "added to these alone."
            if made.tokens >= width
            else f"a ridge of {ridge:.3g} is added to its diagonal. Name a text of "
            f"{width} tokens or more.",
        )


def digest_covariance(covariance: Covariance, layers: Sequence[int]) -> str:
    """Return the SHA-256 of the moments of some layers, to the last bit."""
    digest = hashlib.sha256()
    for layer in sorted(layers):
        digest.update(f"{layer}:".encode())
        moment = covariance.moments[layer].detach().cpu().double().contiguous()
        digest.update(moment.numpy().tobytes())
    return digest.hexdigest()


def _named_files(setting: str | Sequence[str]) -> list[Path]:
    """Return one file or folder, or a list of files, given as it is or as JSON.

    Raises:
        InputError: If the list is broken.
    """
    if not isinstance(setting, str):
        return [Path(name) for name in setting]
    if not setting.startswith("["):
        return [Path(setting)]
    try:
        named = parse_json(setting)
        return [Path(str(name)) for name in named] if isinstance(named, list) else []
    except ValueError as error:
        raise InputError(
            "`prior.covariance`: wanted a file, a folder or a JSON list of files "
            f"({error})."
        ) from None


def _digest(
    model: EditableModel,
    text: TextSource,
    layers: tuple[int, ...],
    threads: int | None,
    tokens: int | None,
) -> str:
    fixed = "" if threads is None else f" {threads} threads"
    estimated = f"{model.fingerprint} {model.device.type} {layers}{fixed}"
    digest = hashlib.sha256(f"{VERSION} {estimated}".encode())
    if text.determined_by:
        digest.update(f" {tokens} tokens of {text.determined_by}".encode())
        return digest.hexdigest()
    for window in read_windows(model, text, WINDOW_BATCHES * BATCH_TOKENS, tokens):
        for row in window.rows:
            digest.update(f"{row.ids}\n".encode())
    return digest.hexdigest()


@contextmanager
def _limited_to(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
