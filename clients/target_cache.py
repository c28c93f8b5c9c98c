"""Targets on disk, under a digest of all that their bits depend on.

The last bits of a batch in floating point depend on the requests that are in it, so
requests that are computed together are filed together. What is found is then what would
be computed, to the bit, and a cache changes no number.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from editing.files.atomic import write_private
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from strategies.wire.messages import Job

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_DRAFT = re.compile(rf"\.{_NAME.pattern}\.\w+\.partial")


METHOD = 2
"""Changes when the same requests come to have targets of other bits."""


@dataclass(frozen=True, slots=True)
class KeptTargets:
    """Targets of requests that were computed together; rows are requests.

    Attributes:
        targets: ``z``, in single precision or, if that is finer, the model's.
        hidden: ``h`` at the same place before the round's edit, in the model's
            precision.
    """

    targets: Float[Tensor, "n d_out"]
    hidden: Float[Tensor, "n d_out"]


@dataclass(frozen=True, slots=True)
class TargetCache:
    """A folder of targets that runs and processes may share.

    Files are readable by their owner alone, are written beside their place and renamed,
    and stay as they are once they are whole.

    Attributes:
        path: The folder; what is kept is kept here, too, if another one has it.
        behind: Asked for what is not here, and given all that is kept.
    """

    path: Path
    behind: "TargetCache | None" = None

    def find(self, name: str) -> KeptTargets | None:
        """What was kept under a name; nothing if the file is broken."""
        kept = self._read(name)
        if kept is None and self.behind is not None:
            return self.behind.find(name)
        return kept

    def keep(self, name: str, kept: KeptTargets) -> None:
        """File targets, unless they are there."""
        if self.behind is not None:
            self.behind.keep(name, kept)
        if self._read(name) is None:
            self._write(name, kept)

    def _read(self, name: str) -> KeptTargets | None:
        try:
            with safe_open(self._file(name), framework="pt") as file:
                kept = KeptTargets(
                    file.get_tensor("targets"), file.get_tensor("hidden")
                )
                told = file.metadata()["sum"]
        except (OSError, SafetensorError, TypeError, KeyError, RuntimeError):
            # The library opens a file twice, and torch raises the last of these if
            # another process has removed it in between.
            return None
        return kept if told == _check_sum(kept) else None

    def _write(self, name: str, kept: KeptTargets) -> None:
        data = save(
            {
                "targets": kept.targets.detach().cpu().contiguous(),
                "hidden": kept.hidden.detach().cpu().contiguous(),
            },
            {"sum": _check_sum(kept)},
        )
        try:
            write_private(self._file(name), data)
        except FileNotFoundError:  # the cache was cleared at this moment
            write_private(self._file(name), data)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"


def cache_folder() -> Path | None:
    """The folder that all runs on this machine share, if the environment names one."""
    named = os.environ.get("COLLABEDIT_CACHE")
    return Path(named) if named else None


def name_targets(
    requests: Sequence[EditRequest], job: Job, model: EditableModel, batch_size: int
) -> str:
    """Digest all that the targets of these requests depend on, computed in this order.

    Prompts that only judge are left out, and so are schedule, merge and encoding.
    """
    parts = {
        "requests": [[each.prompt, each.subject, each.target_new] for each in requests],
        "parameters": job.plan.parameters.model_dump(mode="json"),
        "templates": job.plan.templates,
        "model": job.identity.model_dump(mode="json"),
        "before": job.before,
        "batch_size": batch_size,
        "method": METHOD,
        "machine": _describe_machine(model),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_cache(path: Path) -> tuple[int, int, float | None, float | None]:
    """Number of files, bytes, and the times of the oldest and the newest one."""
    found = [file.stat() for file in _files(path)]
    times = [each.st_mtime for each in found]
    total = sum(each.st_size for each in found)
    return len(found), total, min(times, default=None), max(times, default=None)


def clear_cache(path: Path) -> int:
    """Remove the targets that are kept, and nothing else; gives their number.

    Drafts of a process that was killed go with them. Whoever is writing one now writes
    it again.
    """
    files = _files(path)
    for file in (*files, *_files(path, _DRAFT)):
        file.unlink(missing_ok=True)
    return len(files)


def _files(path: Path, names: re.Pattern[str] = _NAME) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(file for file in path.iterdir() if names.fullmatch(file.name))


def _describe_machine(model: EditableModel) -> list[object]:
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


def _check_sum(kept: KeptTargets) -> str:
    digest = hashlib.sha256()
    for tensor in (kept.targets, kept.hidden):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
