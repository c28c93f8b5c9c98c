"""Whether an error says that a disk has no room left."""

import errno
import re
from collections.abc import Iterator

from safetensors import SafetensorError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""System error numbers: disk full, over a quota, over a file size limit."""

_SYSTEM_NUMBER = re.compile(r"\(os error (\d+)\)")


def has_no_room(error: BaseException) -> bool:
    """Return whether an exception, or one that led to it, says that a disk is full."""
    return any(system_number(each) in _NO_ROOM for each in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and the chain of those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def system_number(error: BaseException) -> int | None:
    """Return the system's error number of an exception, if it has one."""
    if isinstance(error, SafetensorError):  # has it in its text only
        found = _SYSTEM_NUMBER.search(str(error))
        return int(found[1]) if found else None
    return error.errno if isinstance(error, OSError) else None
