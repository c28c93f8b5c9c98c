"""Control of a SuperLink, whoever started it: runs, their logs and how they end.

All of it goes through Flower's own command ``flwr``, a connection of its configuration
and the environment that names both.
"""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from editing.base.errors import InputError
from editing.files.text import parse_toml, read_text
from sims.errors import RunFailedError, RunLostError
from sims.processes.programs import read_while
from strategies.scenario import FlatValue

APP = Path(__file__).resolve().parents[2]
CONNECTION = "collabedit"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
LOG_LINES = 5
LINK_LOG = "superlink.log"
RUN_LOG = "run.log"
COMPLETED = "finished:completed"
FINISHED = "finished:"
"""What the status of a run begins with once it is over."""

FORGOTTEN = "Run ID not found"
"""Flower's message about an unknown run."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


RunFlwr: TypeAlias = Callable[[Sequence[str]], subprocess.CompletedProcess[str] | None]


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink, and how to reach it.

    Attributes:
        scratch: A folder for the files that pass between it and us, with an empty
            folder `empty` to start programs in: files in the current one could
            shadow the app's packages.
        environment: The environment of every program that calls it.
        connection: Its name in the Flower configuration of that environment.
        start: The folder that programs are started in, if not `empty`.
        run_flwr: Runs ``flwr`` with arguments faster than a new process does; it gives
            None if it cannot.
    """

    scratch: Path
    environment: Mapping[str, str]
    connection: str = CONNECTION
    start: Path | None = None
    run_flwr: RunFlwr | None = None

    @property
    def folder(self) -> Path:
        """The folder that programs are started in."""
        return self.start or self.scratch / "empty"

    def submit(self, flat: Mapping[str, FlatValue], federation: str = "") -> str:
        """Send the app and its settings, and give the run's id.

        Args:
            flat: The run's settings, as `strategies.scenario.flatten` writes them.
            federation: Flower's settings of a simulation.

        Raises:
            RunFailedError: If Flower refuses them.
        """
        settings = self.scratch / "run_config.toml"
        settings.write_text(write_toml(flat), encoding="utf-8")
        command = ["run", str(APP), self.connection]
        command += ["--federation-config", federation] if federation else []
        command += ["--run-config", str(settings), "--format", "json"]
        answer = self.call(command)
        run_id = answer.get("run-id")
        if run_id is None:
            raise RunFailedError(f"Flower did not take the run: {answer}")
        return str(run_id)

    def follow(
        self,
        run_id: str,
        *,
        verbose: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait for the end of a run; its log goes to a file, and to stderr if asked.

        It comes back sooner if the SuperLink ends, or once `is_over` says so.
        """
        command = ["flwr", "log", run_id, self.connection, "--stream"]
        decode = getincrementaldecoder("utf-8")("replace").decode
        with (
            (self.scratch / RUN_LOG).open("ab") as log,
            program(command, self, subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            for chunk in read_while(process.stdout.fileno(), is_over):
                log.write(chunk)
                if verbose:
                    sys.stderr.write(decode(chunk))

    def status(self, run_id: str) -> tuple[str, str]:
        """Return the status of a run, and its reason."""
        answer = self.call(
            ["list", self.connection, "--run-id", run_id, "--format", "json"]
        )
        runs = answer.get("runs")
        run = runs[0] if isinstance(runs, list) and runs else {}
        return str(run.get("status", "unknown")), str(run.get("status-details", ""))

    def call(self, arguments: Sequence[str]) -> dict[str, object]:
        """Ask ``flwr`` for JSON.

        Raises:
            RunFailedError: If it answers with something else, or that it failed, which
                its exit code does not always show.
        """
        done = self.run_flwr(arguments) if self.run_flwr is not None else None
        done = done or subprocess.run(
            [executable("flwr"), *arguments],
            env=dict(self.environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            answer = json.loads(done.stdout)
        except json.JSONDecodeError:
            answer = None
        if isinstance(answer, dict) and done.returncode == 0:
            if answer.get("success") is not False:
                return answer
            said = str(answer.get("error-message"))
        else:
            said = done.stdout + done.stderr
        raise RunFailedError(f"`flwr {arguments[0]}` failed: {' '.join(said.split())}")

    def first_exception(self) -> str:
        """Return the line of the run's log that names the first exception."""
        log = (self.scratch / RUN_LOG).read_text(errors="replace")
        found = re.search(
            r"^[\w.]*(?:Error|Exception|Timeout)\b: .+$", log, re.MULTILINE
        )
        return found[0] if found else ""


def follow_to_end(
    link: SuperLink,
    run_id: str,
    *,
    verbose: bool = False,
    patience: float = PATIENCE_SECONDS,
    advice: str = "",
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Wait for the end of a run, also across a restart of the SuperLink.

    Args:
        link: Where it runs.
        run_id: Which run.
        verbose: Whether Flower's log goes to stderr as well.
        patience: For how many seconds the SuperLink may be silent.
        advice: What to try if the run ended without a result.
        is_over: Whether the result is there, which is all that is waited for.

    Raises:
        RunFailedError: If it did.
    """
    status = "unknown"
    while not status.startswith(FINISHED):
        link.follow(run_id, verbose=verbose, is_over=is_over)
        if is_over():
            return
        status, details = ask_status(link, run_id, patience)
        time.sleep(0 if status.startswith(FINISHED) else AGAIN_SECONDS)
    if status != COMPLETED:
        reason = link.first_exception() or details or "no reason given"
        raise RunFailedError(f"the run ended as `{status}`: {reason}. {advice}")


def ask_status(link: SuperLink, run_id: str, patience: float) -> tuple[str, str]:
    """Return the status of a run, and its reason; the SuperLink may be silent a while.

    Raises:
        RunLostError: If it is silent for longer.
        RunFailedError: If it does not know the run.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return link.status(run_id)
        except RunFailedError as error:
            if FORGOTTEN in str(error):
                known = f"the SuperLink does not know the run {run_id}"
                raise RunFailedError(known) from None
            if time.monotonic() >= deadline:
                raise RunLostError(str(error)) from None
        time.sleep(AGAIN_SECONDS)


def check_connection(name: str) -> None:
    """Refuse a SuperLink that the user's Flower configuration does not name.

    Raises:
        InputError: Naming those that it names.
    """
    home = Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr")
    file = home / "config.toml"
    try:
        links = parse_toml(read_text(file)).get("superlink")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--connection {name}: Flower's configuration {file} cannot be read "
            f"({type(error).__name__}); name the SuperLink's address there"
        ) from None
    tables = links if isinstance(links, dict) else {}
    known = [key for key, table in tables.items() if isinstance(table, dict)]
    if name not in known:
        raise InputError(
            f"--connection {name}: {file} has no table [superlink.{name}]; it has "
            f"{', '.join(known) or 'none'}"
        )


@contextmanager
def program(
    arguments: Sequence[str], link: SuperLink, output: IO[bytes] | int
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a program in its own session, so that its children end with it."""
    process = subprocess.Popen(
        [executable(arguments[0]), *arguments[1:]],
        env=dict(link.environment),
        cwd=link.folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end_session(process)


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Ask a program and its children to end, and make them if they do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def wait_until_healthy(
    process: subprocess.Popen[bytes],
    port: int,
    log: Path,
    authority: Path | None = None,
) -> None:
    """Wait for a SuperLink at a port of the loopback interface to answer.

    Args:
        process: It, or what guards it.
        port: Where it listens.
        log: What it prints.
        authority: The certificate that its own is signed by; None without TLS.

    Raises:
        RunFailedError: If it ends or stays silent.
    """
    trusted = ssl.create_default_context(cafile=str(authority)) if authority else None
    address = f"{'https' if authority else 'http'}://127.0.0.1:{port}/health"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1, context=trusted):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_SECONDS)
    state = "ended" if process.poll() is not None else "did not answer"
    raise RunFailedError(f"Flower's SuperLink {state} at start: {last_lines(log)}")


def last_lines(log: Path) -> str:
    """Return the end of a log, in one line."""
    lines = log.read_text(errors="replace").splitlines()
    return " / ".join(lines[-LOG_LINES:])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a short-named folder; Ray's sockets admit no long path."""
    folder = Path(tempfile.mkdtemp(prefix="ce-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Take a request to terminate like an interrupt, so that clean-up happens."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def search_path() -> str:
    """Put this Python's programs first: Flower starts its own by their bare names."""
    programs = str(Path(sys.executable).parent)
    return os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])


def executable(name: str) -> str:
    """Find a program of this Python's environment.

    Raises:
        RunFailedError: If Flower is not installed.
    """
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise RunFailedError(f"`{name}` is not installed; `make demo` installs it")
    return found


def free_port() -> int:
    """Find a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def write_toml(flat: Mapping[str, FlatValue]) -> str:
    """Write a flat table as TOML; JSON's scalars are TOML's."""
    lines = (
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in flat.items()
    )
    return "".join(lines)


def write_connection(name: str, port: int, authority: Path | None = None) -> str:
    """Write Flower's configuration for one SuperLink at a port of the loopback.

    Args:
        name: What the connection is called.
        port: Where it listens.
        authority: The certificate that its own is signed by; None without TLS.
    """
    trust = f"root-certificates = {json.dumps(str(authority))}"
    return (
        f'[superlink]\ndefault = "{name}"\n\n[superlink.{name}]\n'
        f'address = "127.0.0.1:{port}"\n{trust if authority else "insecure = true"}\n'
    )
