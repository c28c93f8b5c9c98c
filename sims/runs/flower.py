"""Flower's simulation, started for one run and ended with it.

The SuperLink has a free port of the loopback interface, a private home and an empty
working folder: files of Flower for other projects of this user are neither read nor
changed, and nothing in the current folder shadows the app's packages.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from server.monitoring.events import EVENTS, EventReader, RunEnded
from sims.processes.fork_server import ForkServer
from sims.processes.programs import Program
from sims.processes.superlink import (
    APP,
    CONNECTION,
    LINK_LOG,
    QUIET,
    SuperLink,
    executable,
    follow_to_end,
    free_port,
    interruptible,
    scratch_folder,
    search_path,
    wait_until_healthy,
    write_connection,
)
from sims.processes.workers.ray_settings import ray_settings
from strategies.scenario import FlatValue

ADVICE = "Try --verbose for Flower's log, or --engine in-process for the traceback"

Run = Callable[[Mapping[str, FlatValue], int], None]
"""Runs the app with flat settings and a number of parties."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy starts no threads when it is loaded: clients are forked from what loads it."""


def run_under_flower(
    flat: Mapping[str, FlatValue], parties: int, *, verbose: bool = False
) -> None:
    """Run the app once in Flower's simulation, which `simulation` describes."""
    with simulation(verbose=verbose) as (run, _):
        run(flat, parties)


@contextmanager
def simulation(*, verbose: bool = False) -> Iterator[tuple[Run, ForkServer]]:
    """Yield what runs the app once in Flower's simulation, which is still starting.

    It comes back as soon as the results are there. A `RunFailedError` explains why
    Flower could not start, or why the run ended without a result. Calls can be made
    before there is a run.

    Args:
        verbose: Whether Flower's log goes to stderr as well.
    """
    with superlink() as start:

        def run(flat: Mapping[str, FlatValue], parties: int) -> None:
            federation = (
                f"num-supernodes={parties} client-resources-num-cpus=1 "
                f"init-args-num-cpus={min(count_cores(), parties)}"
            )
            is_over = ResultWatch(str(flat.get("output.watch", "")))
            link = start.wait()
            run_id = link.submit(flat, federation)
            follow_to_end(link, run_id, verbose=verbose, advice=ADVICE, is_over=is_over)

        yield run, start.fork_server


class ResultWatch:
    """Tells whether a run has recorded that its results are complete."""

    def __init__(self, folder: str) -> None:
        """Read the events of the watched folder from now on; of none if it is empty."""
        self._seen = False
        self._reader = EventReader(Path(folder) / EVENTS, skip_present=True)

    def __call__(self) -> bool:
        """Look for the end of the run; one with an error is Flower's to explain."""
        self._seen = self._seen or any(
            isinstance(event, RunEnded) and event.error is None
            for event in self._reader.read_new()
        )
        return self._seen


@dataclass(frozen=True)
class Start:
    """A SuperLink that starts.

    Attributes:
        link: How to reach it then.
        server: Its program.
        port: Where it is going to listen.
        fork_server: The way to what is loaded meanwhile.
    """

    link: SuperLink
    server: Program
    port: int
    fork_server: ForkServer

    def wait(self) -> SuperLink:
        """Wait until it answers; a `RunFailedError` tells why it never will."""
        wait_until_healthy(self.server.guard, self.port, self.server.log)
        return self.link


@contextmanager
def superlink() -> Iterator[Start]:
    """Yield a SuperLink that starts; all that it started ends with the block.

    Next to it starts what the run will be forked from. After a block that succeeds
    nothing is left for any of them to do, so they are not asked to end.
    """
    with scratch_folder() as scratch, interruptible():
        (scratch / "empty").mkdir()
        home, port = scratch / "home", free_port()
        home.mkdir()
        connection = write_connection(CONNECTION, port)
        (home / "config.toml").write_text(connection, encoding="utf-8")
        environment = {**os.environ, **QUIET, **ONE_THREAD, **ray_settings()}
        environment |= {"FLWR_HOME": str(home), "PATH": search_path()}
        pipe = scratch / "calls"
        os.mkfifo(pipe, 0o600)
        link = SuperLink(scratch, environment)
        server, keeper = make_server(link, port), make_keeper(link, port, pipe)
        fork_server = ForkServer(pipe, keeper)
        link = replace(link, run_flwr=partial(fork_server.call, "flwr.cli.app:app"))
        with server.running(), keeper.running():
            yield Start(link, server, port, fork_server)
            for program in (keeper, server):
                program.kill()


def make_server(link: SuperLink, port: int) -> Program:
    """Lay out a SuperLink whose runs are started by what `make_keeper` lays out."""
    command = [executable("flower-superlink"), "--insecure", "--simulation"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--isolation", "process", "--disable-runtime-dependency-installation"]
    log, scratch = link.scratch / LINK_LOG, link.scratch
    return Program("superlink", command, link.folder, link.environment, log, scratch)


def make_keeper(link: SuperLink, port: int, pipe: Path) -> Program:
    """Lay out `sims.processes.warm_simulation`, which alone looks for its code here."""
    code = (
        f"import sys; sys.path.append({str(APP)!r}); "
        "from sims.processes.warm_simulation import main; "
        f"main({str(pipe)!r})"
    )
    command = [sys.executable, "-P", "-c", code, "--insecure"]
    command += ["--runtime-api-address", f"127.0.0.1:{port}"]
    log = link.scratch / "keeper.log"
    return Program("keeper", command, link.folder, link.environment, log)


def count_cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
