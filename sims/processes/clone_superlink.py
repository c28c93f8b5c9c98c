"""A SuperLink for this clone alone, for users who type ``flwr`` commands themselves.

Flower starts one local SuperLink a user, at one port and with one home. A second clone
joins it without a word, and ending "the SuperLink" ends that of others. Here each clone
has its own home (``.flwr``, which git ignores), its own port and a record of the
process, so that exactly this process can be ended.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from editing.base.settings import Settings
from editing.files.lock import locked
from sims.errors import RunFailedError
from sims.processes.guard import children
from sims.processes.programs import command_line
from sims.processes.superlink import (
    APP,
    LINK_LOG,
    QUIET,
    executable,
    free_port,
    search_path,
    wait_until_healthy,
    write_connection,
)
from sims.processes.workers.ray_settings import ray_settings

HOME = APP / ".flwr"
CONNECTION = "local"
RECORD, DATABASE, LOCK = "superlink.json", "state.db", "lock"

FIRST_PORT, PORTS = 20_000, 10_000
"""The ports of clones: below those that systems give to outgoing connections."""

TRIES = 50
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.1


class Started(Settings):
    """The process that serves a home, and its port on the loopback interface."""

    process: int
    port: int


def call_flwr(arguments: Sequence[str], home: Path = HOME) -> int:
    """Call ``flwr`` with this clone's SuperLink, which is started if it does not run.

    Args:
        arguments: The command and its options, such as ``["run", ".", "--stream"]``.
        home: Flower's home of the clone.

    Returns:
        The exit code of ``flwr``.
    """
    ensure_superlink(home)
    command = [executable("flwr"), *arguments]
    return subprocess.run(command, env=_environment(home), check=False).returncode


def ensure_superlink(home: Path = HOME) -> int:
    """Start the SuperLink of a home if it does not run, and return its port.

    One that does not start is a `RunFailedError`.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(home / LOCK):  # two commands must not start two
        known = find_superlink(home)
        if known is None:
            known = _start(home, choose_port(home))
        (home / "config.toml").write_text(
            write_connection(CONNECTION, known.port), encoding="utf-8"
        )
    return known.port


def find_superlink(home: Path = HOME) -> Started | None:
    """Return the SuperLink that serves a home; None if none runs.

    A process number may have been given to another program since, so the command line
    of the process must name the home.
    """
    try:
        known = Started.model_validate_json((home / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return known if str(home / DATABASE) in _command_of(known.process) else None


def stop_superlink(home: Path = HOME) -> int | None:
    """End the SuperLink of a home with all that it started, and nothing else.

    Returns:
        The number of the process that was ended; None if none runs.
    """
    if not home.is_dir():
        return None
    with locked(home / LOCK):
        known = find_superlink(home)
        if known is not None:
            _end(known.process)
        (home / RECORD).unlink(missing_ok=True)
    return None if known is None else known.process


def choose_port(home: Path) -> int:
    """Return a free port; the same one for a home each time, unless others use it."""
    digest = hashlib.sha256(str(home.resolve()).encode()).digest()
    first = int.from_bytes(digest[:4], "big")
    for step in range(TRIES):
        port = FIRST_PORT + (first + step) % PORTS
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    return free_port()


def _start(home: Path, port: int) -> Started:
    command = [executable("flower-superlink"), "--insecure", "--simulation"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--database", str(home / DATABASE)]
    command += ["--disable-runtime-dependency-installation"]
    log = home / LINK_LOG
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**_environment(home), **ray_settings()},
            cwd=APP,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    started = Started(process=process.pid, port=port)
    (home / RECORD).write_text(started.model_dump_json() + "\n", encoding="utf-8")
    try:
        wait_until_healthy(process, port, log)
    except RunFailedError:
        _end(process.pid)
        (home / RECORD).unlink()
        raise
    return started


def _end(leader: int) -> None:
    """Ask a session's leader to end, then end what is left of all that it started."""
    found = [leader]
    for process in found:  # grows while it is read
        found += children(process)
    commands = {process: _command_of(process) for process in found}
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 1.0)):
        with suppress(ProcessLookupError):
            os.killpg(leader, number)
        deadline = time.monotonic() + seconds
        while _command_of(leader) == commands[leader] and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    for process, command in commands.items():
        if command and _command_of(process) == command:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _command_of(process: int) -> str:
    """A process's command line; empty if it has ended."""
    if sys.platform == "linux":
        return command_line(process)
    listed = ["ps", "-ww", "-o", "command=", "-p", str(process)]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _environment(home: Path) -> dict[str, str]:
    own = {**os.environ, **QUIET, "FLWR_HOME": str(home)}
    return {**own, "PATH": search_path()}
