"""A process that outlives ours by a moment, to end what we started.

A block that cleans up is not run when its process is killed. This program waits for
the end of its standard input, which the system closes with whoever holds the other
end, and then ends all processes that carry a mark. It needs nothing but Python.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def guarded(mark: str, scratch: Path) -> Iterator[None]:
    """Have the processes of the block end with this one, however it ends.

    Args:
        mark: An environment variable, ``NAME=value``, that they all inherit.
        scratch: Their folder, which goes with them.
    """
    command = [sys.executable, "-I", str(Path(__file__).resolve()), mark, str(scratch)]
    # A session of its own: a signal to our process group shall not reach it.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


def processes_of(variable: str) -> list[int]:
    """List the processes that inherited an environment variable of ours.

    Ray starts workers outside the SuperLink's process group; its private home is what
    tells them from anybody else's. Systems without ``/proc`` list none.
    """
    wanted = variable.encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        if wanted in variables:
            found.append(int(folder.name))
    return found


def end_all(processes: Sequence[int]) -> None:
    """End processes by their ids."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    mark, scratch = sys.argv[1:]
    sys.stdin.buffer.read()
    end_all(processes_of(mark))
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
