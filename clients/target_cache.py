"""Targets on disk, under a digest of all that their bits depend on.

The last bits of a batch in floating point depend on the requests that are in it, so
requests that are computed together are kept together. What is found is then equal to
what would be computed, to the bit.
"""

import hashlib
import json
import logging
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from editing.base.errors import InputError
from editing.files.atomic import make_private, write_private
from editing.files.lock import locked
from editing.memit.targets import Targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from strategies.wire.messages import Job

logger = logging.getLogger(__name__)

version = cache(metadata.version)  # its file is long, and every message asks
_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_PARTIAL = re.compile(rf"\.{_NAME.pattern}\.\w+\.partial")


METHOD = 4
"""Changes when the bits of targets change, or the tensors of a file."""

NO_TARGETS = Targets(
    hidden=torch.zeros(0, 0),
    shift=torch.zeros(0, 0),
    loss=torch.zeros(0),
    stopped=torch.zeros(0, dtype=torch.bool),
    clamped=torch.zeros(0, dtype=torch.bool),
)
"""Kept under the name of requests that cannot be computed together."""

_FIELDS = tuple(each.name for each in fields(Targets))


@dataclass(frozen=True, slots=True)
class TargetCache:
    """A folder of targets that runs and processes may share.

    Files are readable by their owner alone, are written whole or not at all, and never
    change afterwards.

    Attributes:
        path: The folder; it holds everything that is kept, even if `shared` does too.
        shared: A second folder, searched for what is not in the first, and given
            everything that is kept.
    """

    path: Path
    shared: "TargetCache | None" = None

    def find(self, name: str) -> Targets | None:
        """Return what was kept under a name; None if nothing was, or it is broken."""
        targets = self._read(name)
        if targets is None and self.shared is not None:
            return self.shared.find(name)
        return targets

    def keep(self, name: str, targets: Targets) -> None:
        """Keep targets under a name, unless there are some."""
        if self.shared is not None:
            self.shared.keep_if_possible(name, targets)
        if self._read(name) is None:
            self._write(name, targets)

    def keep_if_possible(self, name: str, targets: Targets) -> None:
        """Keep targets; a folder that cannot be written costs time and no run."""
        try:
            self.keep(name, targets)
        except OSError as error:
            logger.warning(
                "Targets cannot be kept in %s (%s), so every run computes them again. "
                "Name a folder that can be written with COLLABEDIT_CACHE or the node's "
                "`target-cache`.",
                self.path,
                error.strerror,
            )

    @property
    def unshared(self) -> "TargetCache":
        """The first folder alone."""
        return TargetCache(self.path)

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Keep other processes from computing what is going to have this name.

        It yields whether none is at it; if one is, nothing is locked.
        """
        make_private(self.path)
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._lock(name), "another process is at it"))
                free = True
            except InputError:
                free = False
            yield free

    def wait_for(self, name: str) -> None:
        """Wait for the process that computes what is going to have this name."""
        make_private(self.path)
        with locked(self._lock(name)):
            pass

    def _lock(self, name: str) -> Path:
        return self.path / f".{name}.lock"

    def _read(self, name: str) -> Targets | None:
        try:
            with safe_open(self._file(name), framework="pt") as file:
                targets = Targets(*(file.get_tensor(each) for each in _FIELDS))
                stored = file.metadata()["sum"]
            return targets if stored == _check_sum(targets) else None
        except (OSError, SafetensorError, TypeError, KeyError, RuntimeError):
            # Of what is no file of targets. The library also opens a file twice, and
            # torch raises the last of these if another process removed it in between.
            return None

    def _write(self, name: str, targets: Targets) -> None:
        data = save(_tensors_of(targets), {"sum": _check_sum(targets)})
        try:
            write_private(self._file(name), data)
        except FileNotFoundError:  # the cache was cleared at this moment
            write_private(self._file(name), data)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"


def cache_folder() -> Path | None:
    """Return the folder that all runs of this machine share, if one is named."""
    named = os.environ.get("COLLABEDIT_CACHE")
    return Path(named) if named else None


def name_targets(
    requests: Sequence[EditRequest], job: Job, model: EditableModel, batch_size: int
) -> str:
    """Digest all that the targets of these requests depend on, computed in this order.

    Prompts for evaluation are left out, and so are schedule, merge and encoding.
    """
    parts = {
        "requests": [
            [each.prompt, each.subject, each.target_new, each.target_space]
            for each in requests
        ],
        "parameters": job.plan.parameters.model_dump(mode="json"),
        "templates": job.plan.templates,
        "model": job.identity.model_dump(mode="json"),
        "before": job.before,
        "batch_size": batch_size,
        "method": METHOD,
        "machine": describe_machine(model),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_cache(path: Path) -> tuple[int, int, float | None, float | None]:
    """Return the number of files, their bytes, and the oldest and newest times."""
    found = [file.stat() for file in _files(path)]
    times = [each.st_mtime for each in found]
    total = sum(each.st_size for each in found)
    return len(found), total, min(times, default=None), max(times, default=None)


def clear_cache(path: Path) -> int:
    """Remove all targets, and nothing else; return their number.

    Partial files of a killed process are removed too. A process that is writing one at
    this moment writes it again.
    """
    files = _files(path)
    for file in (*files, *_files(path, _PARTIAL)):
        file.unlink(missing_ok=True)
    return len(files)


def _files(path: Path, names: re.Pattern[str] = _NAME) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(file for file in path.iterdir() if names.fullmatch(file.name))


def describe_machine(model: EditableModel) -> list[object]:
    """Name what else the last bits of a forward pass depend on."""
    device = model.device
    return [
        str(model.dtype),
        device.type,
        torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        torch.__version__,
        version("transformers"),
    ]


def _tensors_of(targets: Targets) -> dict[str, Tensor]:
    return {
        name: getattr(targets, name).detach().cpu().contiguous() for name in _FIELDS
    }


def _check_sum(targets: Targets) -> str:
    digest = hashlib.sha256()
    for plain in _tensors_of(targets).values():
        digest.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
