"""A simulation process that starts warm, while its SuperLink still starts.

Flower's SuperLink starts a process for a run once the run is there. That process then
loads torch and transformers for several seconds, in which nothing else can be done.
This program takes the place of the `flower-superexec` next to a SuperLink with
``--simulation --isolation process``, takes its options, and loads them at once.

The run's process is forked from a keeper, as in `sims.processes.warm_clients`, and does
what Flower's `flwr-simulation` does with the app that the run brought along, but for
Ray: its clients are processes of `sims.processes.workers`. So forked are the processes
of `sims.processes.fork_server`.
"""

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.constant import TaskType

from sims.processes import warm_clients
from sims.processes.fork_server import FAILED, FORKS, ForkedCall, status_of
from sims.processes.warm_clients import (
    Task,
    fork_for_each,
    load_libraries,
    use_keeper,
)
from sims.processes.workers.backend import use_forked_clients
from sims.processes.workers.forker import start_forker
from sims.processes.workers.libraries import MODELS

APP = Path(__file__).resolve().parents[2]
ADDRESS = "--runtime-api-address"
LOOK_SECONDS = 0.05
POLL_SECONDS = "0.3"
"""How often the SuperLink is asked for a run; Flower's own default is a second."""

LIBRARIES = (
    "flwr.cli.app",
    "flwr.simulation.app",
    *warm_clients.LIBRARIES,
    *MODELS,
)
"""What a run's process loads that is no part of the app, and what sends the run."""


def main(pipe: str) -> None:
    """Fork the keeper, wait for the SuperLink, and do what `flower-superexec` does.

    Args:
        pipe: The named pipe through which the keeper is asked for processes.
    """
    os.environ.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", POLL_SECONDS)
    if FORKS:
        if os.fork() == 0:
            keep(pipe)
        use_keeper(os.fdopen(os.open(pipe, os.O_WRONLY), "w"), TaskType.SIMULATION)
    wait_for(sys.argv[sys.argv.index(ADDRESS) + 1])
    flower_superexec()


def keep(pipe: str) -> NoReturn:
    """Load the libraries, and fork a process for each line of a named pipe.

    If they cannot be loaded, our parent ends too: nobody could do its tasks.
    """
    # Open for both, so that it never ends: whoever started us ends this process.
    with os.fdopen(os.open(pipe, os.O_RDWR), encoding="utf-8") as lines:
        if status_of(partial(load_libraries, LIBRARIES)):
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(FAILED)
        fork_for_each(lines, do)
    os._exit(0)


def do(line: str) -> None:
    """Make a call of ours, or Flower's task, in a process forked for it."""
    asked = json.loads(line)
    if "call" in asked:
        ForkedCall(**asked).run()
    else:
        use_forked_clients(start_forker())
        run_simulation(Task(**asked))


def wait_for(address: str) -> None:
    """Wait until something listens at an address; whoever started us gives up first."""
    host, _, port = address.rpartition(":")
    while True:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(LOOK_SECONDS)


def run_simulation(task: Task) -> None:
    """Do what `flwr-simulation` does, where nothing but the run's app can be found."""
    from flwr.simulation.app import flwr_simulation

    sys.path[:] = [each for each in sys.path if each and Path(each).resolve() != APP]
    sys.argv = ["flwr-simulation", ADDRESS, task.runtime_api_address]
    sys.argv += ["--token", task.token]
    if task.insecure:
        sys.argv += ["--insecure"]
    elif task.root_certificates_path is not None:
        sys.argv += ["--root-certificates", task.root_certificates_path]
    if task.parent_pid is not None:
        sys.argv += ["--parent-pid", str(task.parent_pid)]
    flwr_simulation()
