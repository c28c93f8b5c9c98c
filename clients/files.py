"""Files that their owner alone may read, and of which no half is ever seen."""

import os
import tempfile
from pathlib import Path

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


def add_private(file: Path, line: str) -> None:
    """Add a line to a file at once; if there is no room for all of it, for none.

    Lines that others add meanwhile are kept.
    """
    data = (line + "\n").encode()
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        before = os.fstat(handle).st_size
        written = os.write(handle, data)
        if written < len(data):  # the disk is full; the rest is refused with a reason
            try:
                os.write(handle, data[written:])
            except OSError:
                os.ftruncate(handle, before)
                raise
    finally:
        os.close(handle)
