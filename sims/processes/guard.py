"""A process that runs a program for `Program`, and ends all that the program started.

A block that cleans up is not run when its process is killed. This process waits for
the end of its standard input, which the system closes with the process that holds the
other end. Whatever the program started becomes its child when the parent ends, in
whatever session it is (Linux's child subreaper), so nothing is left when it has no
children. It runs on its own and needs nothing but Python.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 10.0
"""Seconds that a program may take to end after SIGTERM."""

PROCESS = "process"
"""The file in the scratch folder that holds the program's process number."""

LOOK_SECONDS = 0.05
SET_CHILD_SUBREAPER = 36
"""``PR_SET_CHILD_SUBREAPER`` of Linux's ``prctl``."""


def main() -> None:
    """Run the program to its end, or to that of standard input; then clean up."""
    scratch, *command = sys.argv[1:]
    adopt_orphans()
    started = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True
    )
    (Path(scratch) / PROCESS).write_text(f"{started.pid}\n")
    status = None
    while status is None and not select.select([0], [], [], LOOK_SECONDS)[0]:
        status = collect_ended().get(started.pid)
    end_all(started.pid, has_ended=status is not None)
    shutil.rmtree(scratch, ignore_errors=True)
    sys.stdout.flush()
    os._exit(1 if status is None else status)  # `started` is waited for by nobody else


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, which Linux alone can do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def collect_ended() -> dict[int, int]:
    """Wait for the children that have ended.

    Returns:
        Their exit codes by process number; 128 + the signal for a killed one.
    """
    ended: dict[int, int] = {}
    with suppress(ChildProcessError):  # there is none at all
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            code = os.waitstatus_to_exitcode(found[1])
            ended[found[0]] = code if code >= 0 else 128 - code
    return ended


def end_all(leader: int, *, has_ended: bool) -> None:
    """Ask a program to end, then end all children until none is left."""
    if not has_ended:
        signal_session(leader, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while not has_ended or children():
        has_ended |= leader in collect_ended()
        if has_ended or time.monotonic() > deadline:
            signal_session(leader, signal.SIGKILL)
            for child in children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def signal_session(leader: int, number: signal.Signals) -> None:
    """Send a signal to the process group that a session's leader began."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def children(parent: int | None = None) -> list[int]:
    """List a process's children, or ours; systems without ``/proc`` list none."""
    own, found = os.getpid() if parent is None else parent, []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile
            stat = (folder / "stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == own:
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    main()
