"""Flower's simulation, started for one run and ended with it.

The SuperLink has a free port of the loopback interface, a private home and an empty
working folder: files of Flower for other projects of this user are neither read nor
changed, and nothing in the current folder shadows the app's packages.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sims.processes.programs import Program
from sims.processes.superlink import (
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
from strategies.scenario import FlatValue

ADVICE = "Try --verbose for Flower's log, or --engine in-process for the traceback"


def run_under_flower(
    flat: Mapping[str, FlatValue], parties: int, *, verbose: bool = False
) -> None:
    """Run the app once in Flower's simulation.

    A `RunFailedError` explains why Flower could not start, or why the run ended without
    a result.

    Args:
        flat: The run's settings, as `strategies.scenario.flatten` writes them.
        parties: How many nodes to simulate.
        verbose: Whether Flower's log goes to stderr as well.
    """
    federation = (
        f"num-supernodes={parties} client-resources-num-cpus=1 "
        f"init-args-num-cpus={min(count_cores(), parties)}"
    )
    with superlink() as link:
        run_id = link.submit(flat, federation)
        follow_to_end(link, run_id, verbose=verbose, advice=ADVICE)


@contextmanager
def superlink() -> Iterator[SuperLink]:
    """Yield a new SuperLink; all that it started ends with the block."""
    with scratch_folder() as scratch, interruptible():
        (scratch / "empty").mkdir()
        home, port = scratch / "home", free_port()
        home.mkdir()
        connection = write_connection(CONNECTION, port)
        (home / "config.toml").write_text(connection, encoding="utf-8")
        environment = {**os.environ, **QUIET, "FLWR_HOME": str(home)}
        environment["PATH"] = search_path()
        link = SuperLink(scratch, environment)
        command = [executable("flower-superlink"), "--insecure", "--simulation"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--disable-runtime-dependency-installation"]
        log, empty = scratch / LINK_LOG, scratch / "empty"
        server = Program("superlink", command, empty, environment, log, scratch)
        with server.running():
            wait_until_healthy(server.guard, port, log)
            yield link


def count_cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
