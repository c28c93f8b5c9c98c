"""A cache of model fingerprints, so that unchanged weights are not read again.

A fingerprint reads every byte of a model's weights. A program that starts once per
message would do so each time, only to learn whether the files are still the same. Their
names, sizes, inode numbers and times of change show that without reading them.

What is trusted: the file system's own time of change (``ctime``), which no program
sets; and the owner of the cache's folder, who may change the model itself just as well.
A file that was changed so shortly before it was read that the clock of its file system
might not show the next change is not recorded, as git does with its index.

What is not seen: a change while a process has the model. Weights are mapped, so writing
into their file changes them in every process that has it open, after the fingerprint
was computed. A model's files are to be replaced, by a rename over them, and
never overwritten: a process then keeps the weights that it has loaded.
"""

import hashlib
import json
import logging
import os
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from editing.algebra.fingerprints import Fingerprints
from editing.files.atomic import write_private
from editing.models.loading import EditableModel, load_editable_model
from editing.models.module_names import ModuleNames

logger = logging.getLogger(__name__)

SETTLED = 2.0
"""Seconds after which another change of a file is sure to have another time."""

_FORM = 2
"""Changes with what is digested, or with how it is written down."""

_DEPENDS_ON = ("torch", "transformers", "tokenizers", "safetensors")
"""Libraries that make a model of its files."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The file system's metadata of a model's files, and how they are loaded.

    Attributes:
        model: Digest of the files' paths, and of precision and device.
        state: Digest of name, size, number and times of change of every file, and of
            the versions of the libraries that load them.
        newest: The latest time of change of a file, in seconds since the epoch.
        taken: When this was read off, likewise.
    """

    model: str
    state: str
    newest: float
    taken: float

    def agrees_with(self, other: "Stamp | None") -> bool:
        """Return whether no file was changed between this stamp and the other."""
        return other is not None and self.state == other.state


def stamp_model(path: str, dtype: str, device: str) -> Stamp | None:
    """Read off what a fingerprint of a model's files would depend on.

    Args:
        path: The model's folder.
        dtype: The precision that its weights are loaded in.
        device: Where they are put.

    Returns:
        None if the folder does not hold all that is loaded: it is none but a name at
        the hub, or holds an adapter, whose weights are elsewhere, or links to folders.
    """
    folder = Path(path)
    if not folder.is_dir() or (folder / "adapter_config.json").exists():
        return None
    try:
        found = sorted(folder.rglob("*"))
        if any(each.is_symlink() and each.is_dir() for each in found):
            return None
        seen = [(each, each.stat()) for each in found if each.is_file()]
    except OSError:  # such as of a file that is taken away meanwhile
        return None
    lines = [
        f"{each.relative_to(folder)} {s.st_dev} {s.st_ino} {s.st_size} "
        f"{s.st_mtime_ns} {s.st_ctime_ns}"
        for each, s in seen
    ]
    lines += [f"{name} {version(name)}" for name in _DEPENDS_ON]
    times = (max(s.st_mtime, s.st_ctime) for _, s in seen)
    return Stamp(
        model=_digest([str(folder.resolve()), dtype, device]),
        state=_digest([f"form {_FORM}", *lines]),
        newest=max(times, default=0.0),
        taken=time.time(),
    )


@dataclass(frozen=True, slots=True)
class FingerprintCache:
    """A private folder with one small file for each model, precision and device.

    Processes may share it: a file is written whole or not at all. One that is
    broken, or that others than its owner may write, counts as missing.

    Attributes:
        path: The folder; made when something is kept, for its owner alone.
    """

    path: Path

    def find(self, stamp: Stamp) -> Fingerprints | None:
        """What was kept of a model whose files are still the same; None if unknown."""
        file = self._file(stamp)
        try:
            about = file.stat()
            if about.st_mode & 0o022 or about.st_uid not in {os.geteuid(), 0}:
                return None
            kept = json.loads(file.read_text(encoding="utf-8"))
            found = Fingerprints(str(kept["weights"]), str(kept["tokenizer"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if kept == _record(stamp, found) else None

    def keep(self, before: Stamp, after: Stamp | None, found: Fingerprints) -> bool:
        """Take down fingerprints, if the files surely are what was digested.

        Args:
            before: Of the files before they were read.
            after: Of the files after that.
            found: What was computed meanwhile.

        Returns:
            Whether they are kept now: not if a file was changed meanwhile, or shorter
            than `SETTLED` before, or if the folder cannot be written.
        """
        young = before.taken - before.newest < SETTLED
        if young or not before.agrees_with(after):
            return False
        try:
            # Private: other users may not write fingerprints of this model.
            write_private(self._file(before), json.dumps(_record(before, found)))
        except OSError as error:
            logger.warning(
                "Fingerprints cannot be kept in %s (%s), so every new process reads "
                "all of the model's weights. Let XDG_CACHE_HOME name a folder that "
                "can be written.",
                self.path,
                error.strerror,
            )
            return False
        return True

    def _file(self, stamp: Stamp) -> Path:
        return self.path / f"{stamp.model}.json"


def load_known_model(
    path: str,
    dtype: str,
    device: str,
    names: ModuleNames | None,
    cache: FingerprintCache,
) -> EditableModel:
    """Load a model and its fingerprints, of which the first load alone computes any.

    While its files stay the same, later processes find the fingerprints in the cache,
    and read of the weights only what they compute with. All else is as
    `load_editable_model` has it.

    Args:
        path: A folder as `save_pretrained` writes it, in shards or not, or a hub name,
            of which the fingerprints are computed every time.
        dtype: The precision of weights and forward passes, as torch names it.
        device: As torch names it, or ``auto``.
        names: The model's modules, where they are not those of its family.
        cache: Where fingerprints are kept.
    """
    before = stamp_model(path, dtype, device)
    model = load_editable_model(path, dtype, device, names)
    if before is None:
        return model
    found = cache.find(before)
    if found is None or not before.agrees_with(stamp_model(path, dtype, device)):
        found = Fingerprints(model.fingerprint, model.tokenizer_fingerprint)
        cache.keep(before, stamp_model(path, dtype, device), found)
    return replace(model, known=found)


def _record(stamp: Stamp, found: Fingerprints) -> dict[str, str]:
    """Return what is written, with a check sum against damage."""
    values = {"state": stamp.state, **asdict(found)}
    return values | {"check": _digest(list(values.values()))}


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()
