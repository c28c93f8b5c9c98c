"""What makes two trials one: a digest of all that the bits of a run follow from."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from editing.base.origin import PROJECT, find_own_version, find_version
from editing.requests.edit_request import EditRequest, to_counterfact
from editing.sources.embedded import EMBEDDED, locate_embedded
from server.config import RunConfig
from server.tables import PATH_KEYS
from strategies.wire.messages import PROTOCOL_VERSION

ROOT = Path(__file__).resolve().parents[3]
COMPUTING = ("editing", "strategies", "clients", "server")
"""The folders whose code a run's numbers follow from."""

LIBRARIES = ("torch", "transformers", "numpy", "flwr")
LARGE = 2**26
"""Bytes from which a file stands for itself by its size and time, and is not read."""

PLACES = {"source", "skip", "limit"}
"""Settings that only say where a trial's requests are, which are digested."""

UNREAD = {"name"}
"""Settings of a schedule that name folders and change no number."""


def digest_trial(
    config: RunConfig, requests: Sequence[EditRequest], attack: str = ""
) -> str:
    """Return a SHA-256 of settings, requests, files that are read, and versions.

    What a hostile party does belongs to it.

    Where results are written, and which engine carries the messages, is left out: the
    numbers are the same.
    """
    parts = {
        "settings": describe_settings(config),
        "requests": [to_counterfact(request) for request in requests],
        "files": {key: digest_path(path) for key, path in paths_of(config).items()},
        "versions": dict(describe_versions()),
        "attack": attack,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_settings(config: RunConfig) -> dict[str, object]:
    """Return the settings that a trial's numbers follow from, without its places."""
    tables: dict[str, object] = config.model_dump(mode="json", exclude={"output"})
    for table, left_out in (("requests", PLACES), ("run", UNREAD)):
        own = tables[table]
        assert isinstance(own, dict)
        tables[table] = {key: own[key] for key in own if key not in left_out}
    return tables


def paths_of(config: RunConfig) -> dict[str, Path]:
    """Return the files and folders that a run reads, by their settings."""
    found: dict[str, Path] = {}
    for table, key in PATH_KEYS:
        if table == "output" or (table, key) == ("requests", "source"):
            continue
        value = getattr(getattr(config, table), key, None)
        for number, each in enumerate(value if isinstance(value, tuple) else [value]):
            path = locate_embedded() if each == EMBEDDED else each
            if isinstance(path, str | Path) and str(path) and Path(path).exists():
                found[f"{table}.{key}.{number}"] = Path(path)
    return found


def digest_path(path: Path) -> str:
    """Return a SHA-256 of a file, or of all files in a folder and their names."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*"))
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            state = file.stat()
            name = file.relative_to(path).as_posix()
            digest.update(f"{name} ".encode())
            digest.update(_digest_file(file, state.st_size, state.st_mtime_ns))
    return digest.hexdigest()


@cache
def _digest_file(file: Path, size: int, changed: int) -> bytes:
    if size >= LARGE:
        return f"{size} {changed}".encode()
    return hashlib.sha256(file.read_bytes()).digest()


@cache
def describe_versions() -> Mapping[str, str]:
    """Return the versions that a run's numbers follow from, our own code's first.

    The code has a digest besides its version: whoever works on it computes again.
    """
    import torch

    return {
        PROJECT: find_own_version(),
        "protocol": str(PROTOCOL_VERSION),
        "code": _digest_code(),
        "python": platform.python_version(),
        **{name: find_version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _digest_code() -> str:
    digest = hashlib.sha256()
    for folder in COMPUTING:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT).as_posix()} ".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
