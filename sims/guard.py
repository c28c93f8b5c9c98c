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
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

QUIET_LOOKS = 3
LOOK_SECONDS = 0.1
AT_MOST_SECONDS = 60.0


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


def end_processes_of(variable: str) -> None:
    """End the processes that inherited an environment variable of ours.

    One look is not enough: whoever ends first may be replaced by a process that has not
    ended yet (Ray's raylet does), and a process that is just being started shows no
    variables for a moment. So it looks until it has found nothing a few times in turn.
    """
    quiet, deadline = 0, time.monotonic() + AT_MOST_SECONDS
    while quiet < QUIET_LOOKS and time.monotonic() < deadline:
        found = processes_of(variable)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if found else quiet + 1
        time.sleep(LOOK_SECONDS)


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    mark, scratch = sys.argv[1:]
    sys.stdin.buffer.read()
    end_processes_of(mark)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
