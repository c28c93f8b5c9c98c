"""Flower's simulation, started for one run and ended with it.

A SuperLink of our own, at a free port of the loopback interface, with a private home
and an empty working folder: what Flower keeps for other projects of this user is
neither read nor changed, and nothing in the current folder shadows the app's packages.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sims.errors import RunFailedError
from sims.guard import guarded
from strategies.scenario import FlatValue

APP = Path(__file__).resolve().parent.parent
CONNECTION = "collabedit"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.2
LOG_LINES = 5
LINK_LOG = "superlink.log"
RUN_LOG = "run.log"
COMPLETED = "finished:completed"
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def run_under_flower(
    flat: Mapping[str, FlatValue], parties: int, *, verbose: bool = False
) -> None:
    """Run the app once in Flower's simulation.

    Args:
        flat: The run's settings, as `strategies.scenario.flatten` writes them.
        parties: How many nodes to simulate.
        verbose: Whether Flower's log goes to stderr as well.

    Raises:
        RunFailedError: If Flower could not start, or the run did not complete.
    """
    with superlink() as link:
        run_id = link.submit(flat, parties)
        link.follow(run_id, verbose=verbose)
        status, details = link.status(run_id)
        if status != COMPLETED:
            reason = link.first_exception() or details or "no reason given"
            raise RunFailedError(
                f"the run ended as `{status}`: {reason}. Try --verbose for Flower's "
                "log, or --engine in-process for the traceback"
            )


@dataclass(frozen=True)
class SuperLink:
    """A SuperLink that runs, and how to speak with it.

    Attributes:
        scratch: The folder that holds all it writes.
        environment: The environment of every program that speaks with it.
    """

    scratch: Path
    environment: Mapping[str, str]

    def submit(self, flat: Mapping[str, FlatValue], parties: int) -> str:
        """Send the app and its settings, and give the run's id.

        Raises:
            RunFailedError: If Flower refuses them.
        """
        settings = self.scratch / "run_config.toml"
        settings.write_text(write_toml(flat), encoding="utf-8")
        cores = count_cores()
        federation = (
            f"num-supernodes={parties} client-resources-num-cpus=1 "
            f"init-args-num-cpus={min(cores, parties)}"
        )
        command = ["run", str(APP), CONNECTION, "--federation-config", federation]
        command += ["--run-config", str(settings), "--format", "json"]
        answer = self.call(command)
        run_id = answer.get("run-id")
        if run_id is None:
            raise RunFailedError(f"Flower did not take the run: {answer}")
        return str(run_id)

    def follow(self, run_id: str, *, verbose: bool) -> None:
        """Wait for the end of a run; its log goes to a file, and to stderr if asked."""
        command = ["flwr", "log", run_id, CONNECTION, "--stream"]
        with (
            (self.scratch / RUN_LOG).open("wb") as log,
            program(command, self, subprocess.PIPE) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                if verbose:
                    sys.stderr.write(line.decode(errors="replace"))
            process.wait()

    def status(self, run_id: str) -> tuple[str, str]:
        """Tell how a run stands, and why."""
        answer = self.call(["list", CONNECTION, "--run-id", run_id, "--format", "json"])
        runs = answer.get("runs")
        run = runs[0] if isinstance(runs, list) and runs else {}
        return str(run.get("status", "unknown")), str(run.get("status-details", ""))

    def call(self, arguments: Sequence[str]) -> dict[str, object]:
        """Ask ``flwr`` for JSON.

        Raises:
            RunFailedError: If it answers with something else.
        """
        done = subprocess.run(
            [executable("flwr"), *arguments],
            env=dict(self.environment),
            cwd=self.scratch / "empty",
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            answer = json.loads(done.stdout)
        except json.JSONDecodeError:
            answer = None
        if done.returncode != 0 or not isinstance(answer, dict):
            said = " ".join((done.stdout + done.stderr).split())
            raise RunFailedError(f"`flwr {arguments[0]}` failed: {said}")
        return answer

    def last_lines(self, name: str) -> str:
        """Give the end of a log."""
        lines = (self.scratch / name).read_text(errors="replace").splitlines()
        return " / ".join(lines[-LOG_LINES:])

    def first_exception(self) -> str:
        """Give the line of the run's log that names the exception all others follow."""
        log = (self.scratch / RUN_LOG).read_text(errors="replace")
        found = re.search(
            r"^[\w.]*(?:Error|Exception|Timeout)\b: .+$", log, re.MULTILINE
        )
        return found[0] if found else ""


@contextmanager
def superlink() -> Iterator[SuperLink]:
    """Lend a SuperLink of our own; whatever it started ends with the block."""
    with scratch_folder() as scratch, interruptible():
        (scratch / "empty").mkdir()
        home, port = scratch / "home", free_port()
        home.mkdir()
        (home / "config.toml").write_text(write_connection(port), encoding="utf-8")
        environment = {**os.environ, **QUIET, "FLWR_HOME": str(home)}
        environment["PATH"] = search_path()
        link = SuperLink(scratch, environment)
        command = [executable("flower-superlink"), "--insecure", "--simulation"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--disable-runtime-dependency-installation"]
        with (
            (scratch / LINK_LOG).open("wb") as log,
            guarded(
                command,
                scratch,
                log,
                environment=environment,
                folder=scratch / "empty",
            ) as process,
        ):
            wait_until_healthy(process, port, link)
            yield link


@contextmanager
def program(
    arguments: Sequence[str], link: SuperLink, output: IO[bytes] | int
) -> Iterator[subprocess.Popen[bytes]]:
    """Lend a program in a session of its own, so that it can be ended whole."""
    process = subprocess.Popen(
        [executable(arguments[0]), *arguments[1:]],
        env=dict(link.environment),
        cwd=link.scratch / "empty",
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
    process: subprocess.Popen[bytes], port: int, link: SuperLink
) -> None:
    """Wait for a SuperLink to answer.

    Raises:
        RunFailedError: If it ends or stays silent.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_SECONDS)
    state = "ended" if process.poll() is not None else "did not answer"
    raise RunFailedError(
        f"Flower's SuperLink {state} at start: {link.last_lines(LINK_LOG)}"
    )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Lend a short-named folder; Ray's sockets admit no long path."""
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


def count_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def search_path() -> str:
    """Put this Python's programs first: Flower starts its own by their bare names."""
    beside = str(Path(sys.executable).parent)
    return os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])


def executable(name: str) -> str:
    """Find a program of this Python's environment.

    Raises:
        RunFailedError: If Flower is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RunFailedError(f"`{name}` is not installed; `make demo` installs it")
    return found


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def write_connection(port: int) -> str:
    """Write Flower's configuration for one SuperLink at a port."""
    return (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    )


def write_toml(flat: Mapping[str, FlatValue]) -> str:
    """Write a flat table as TOML; JSON's scalars are TOML's."""
    lines = (
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in flat.items()
    )
    return "".join(lines)
