"""Whether it was the disk that had no room, and what is surely on it."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The system's numbers for a disk without room: full, over a quota, over a limit."""

_NOT_FLUSHED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""What file systems say that flush no folder, or nothing at all."""

_SYSTEM_NUMBER = re.compile(r"\(os error (\d+)\)")


def has_no_room(error: BaseException) -> bool:
    """Tell whether a disk without room is behind an exception, however it was put."""
    return any(system_number(each) in FULL for each in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and those that were under way when it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def system_number(error: BaseException) -> int | None:
    """The system's number of what went wrong, if it was the system that said no."""
    if isinstance(error, SafetensorError):  # the library writes it into its text
        found = _SYSTEM_NUMBER.search(str(error))
        return int(found[1]) if found else None
    return error.errno if isinstance(error, OSError) else None


def put_in_place(draft: Path, file: Path) -> None:
    """Move a draft to its place, so that a power cut leaves it or what was there.

    The draft's bytes are on the disk before it has its name, and the name is there
    before this returns. Of a file that is only renamed the name may come first.

    Args:
        draft: A whole file in the folder of `file`.
        file: Its place.
    """
    flush(draft)
    draft.replace(file)
    flush(file.parent)


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's list of names, are on the disk."""
    windows = sys.platform == "win32"
    if windows and path.is_dir():  # cannot be opened there
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_FLUSHED:
            raise
    finally:
        os.close(handle)


def flush_all(folder: Path) -> None:
    """Flush a folder, all that lies in it, and its own name."""
    for path in sorted(folder.rglob("*")):
        flush(path)
    flush(folder)
    flush(folder.parent)
