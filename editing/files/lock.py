"""The one lock between processes; the system releases that of a killed process."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import EINVAL, ENOLCK, ENOSYS, ENOTSUP
from pathlib import Path

from filelock import FileLock, Timeout

from editing.base.errors import InputError
from editing.files.atomic import PRIVATE_FILE

_NO_LOCKS = frozenset({EINVAL, ENOLCK, ENOSYS, ENOTSUP})
"""What file systems without locks answer."""


@contextmanager
def locked(file: Path, busy: str | None = None) -> Iterator[None]:
    """Keep other processes that lock the same file waiting, or refuse them.

    The file exists while the lock is held and is removed afterwards. On a file system
    without locks the block runs all the same.

    Args:
        file: A file of this lock alone, in a folder that exists.
        busy: The error message if another process holds the lock; without one, wait.

    Raises:
        InputError: With `busy`, if another process holds the lock.
    """
    lock = FileLock(file, -1 if busy is None else 0, PRIVATE_FILE, thread_local=False)
    with ExitStack() as stack:
        try:
            lock.acquire()
        except Timeout:
            raise InputError(busy) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        else:
            stack.callback(_release, lock, file)
        yield


def _release(lock: FileLock, file: Path) -> None:
    """Remove the file first; a process that waits for it makes a new one."""
    with suppress(OSError):  # a system that removes no open file
        file.unlink()
    lock.release()
