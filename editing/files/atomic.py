"""Atomic file writes: a file appears complete, or not at all."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL, ENOSYS, ENOTSUP
from pathlib import Path
from stat import S_IMODE
from uuid import uuid4

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
"""Modes that admit the owner alone."""

_BY_UMASK = 0o666
_NO_FLUSH = frozenset({EINVAL, ENOTSUP, ENOSYS})
"""What file systems answer that cannot flush a folder, or anything."""


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file with the mode that the umask gives; text is written as UTF-8."""
    with partial_file(path) as partial:
        _fill(partial, data)


def write_private(path: Path, data: bytes | str) -> None:
    """Write a file that only its owner may read; folders it needs are made likewise."""
    make_private(path.parent, close=False)
    with partial_file(path, PRIVATE_FILE) as partial:
        _fill(partial, data)


def create_private(path: Path, data: bytes | str) -> bool:
    """Write a private file unless it exists, and return whether it did not.

    Of several processes that create the file at the same time, one does.
    """
    make_private(path.parent, close=False)
    partial = _partial_of(path)
    try:
        partial.touch(PRIVATE_FILE, exist_ok=False)
        _fill(partial, data)
        flush(partial)
        path.hardlink_to(partial)  # unlike a rename, fails if the file exists
        flush(path.parent)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


@contextmanager
def partial_file(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield an empty file in the folder of `path` that then replaces `path`.

    When the block ends, the file's bytes are flushed to the disk, then it is renamed,
    then its folder is flushed: a power cut leaves the new file or the earlier one. When
    the block fails, the partial file is removed and `path` is as it was. Processes that
    write the same file at the same time do not disturb each other.

    Args:
        path: The file to write. Its folder exists.
        mode: The file's mode; if absent, the one that the umask gives.
    """
    partial = _partial_of(path)
    try:
        partial.touch(_BY_UMASK if mode is None else mode, exist_ok=False)
        given = S_IMODE(partial.stat().st_mode) if mode is None else mode
        yield partial
        partial.chmod(given)  # some libraries put a file of their own in its place
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def make_private(folder: Path, *, close: bool = True) -> None:
    """Make a folder that only its owner may enter.

    Args:
        folder: With the folders above it that are missing.
        close: Whether a folder that exists is closed to others too.
    """
    folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    if close:
        folder.chmod(PRIVATE_FOLDER)


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's list of names, are on the disk."""
    windows = sys.platform == "win32"
    if windows and path.is_dir():  # cannot be opened there
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(handle)


def flush_all(folder: Path) -> None:
    """Flush a folder, everything in it, and its own name."""
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)
    flush(folder.parent)


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")


def _fill(partial: Path, data: bytes | str) -> None:
    # Not created again if another process has removed it: its mode would be another.
    with partial.open("r+b") as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)
