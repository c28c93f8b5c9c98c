"""Whether it was the disk that had no room."""

import errno
import re
from collections.abc import Iterator

from safetensors import SafetensorError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The system's numbers for a disk without room: full, over a quota, over a limit."""

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
