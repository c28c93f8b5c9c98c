"""Finding processes of this machine, on systems that have ``/proc``."""

import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="needs /proc"
)


LISTENS = "0A"
"""The state of a socket that listens, in ``/proc/net/tcp``."""


def accept_interrupts() -> None:
    """Let the program that starts in this process be interrupted.

    What a shell starts in the background ignores interrupts, and so do its children.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def processes_of(variable: str) -> list[int]:
    """List the processes with an environment variable, given as ``NAME=value``.

    Programs that write their title over their own environment may not be listed.
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


def lives(process: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def is_gone(process: int, seconds: float = 20) -> bool:
    """Wait until a process is gone."""
    deadline = time.monotonic() + seconds
    while lives(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not lives(process)


def listening(process: int) -> set[str]:
    """List the TCP addresses at which a process listens, as ``/proc`` writes them.

    That is hexadecimal, ``0100007F:1F90`` for port 8080 of the loopback interface.
    """
    found = set()
    with suppress(OSError):  # gone meanwhile
        opened = Path(f"/proc/{process}/fd").iterdir()
        links = {str(each.readlink()) for each in opened}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines():
                fields = line.split()
                if fields[3] == LISTENS and f"socket:[{fields[9]}]" in links:
                    found.add(fields[1])
    return found
