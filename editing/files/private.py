"""Files that their owner alone may read, and of which no half is ever seen."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

OWNER = 0o700
"""The mode of a folder that nobody else may look into."""


def make_private(folder: Path) -> None:
    """Make a folder, and close it to others even if it was there."""
    folder.mkdir(parents=True, exist_ok=True, mode=OWNER)
    folder.chmod(OWNER)


def write_private(file: Path, data: bytes) -> None:
    """Write a file beside its place and move it there; a failure leaves nothing.

    Nodes of a simulation share folders, and containers that share a volume may have one
    process id, so each draws a name for its draft.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=OWNER)
    handle, draft = tempfile.mkstemp(".partial", f".{file.name}.", file.parent)
    beside = Path(draft)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Have a folder to oneself, among those who ask for it by this function.

    Others wait, where the system has locks on files; of one that is killed the system
    lets go.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=OWNER)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        if sys.platform != "win32":  # a child that was forked meanwhile has it open
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)
