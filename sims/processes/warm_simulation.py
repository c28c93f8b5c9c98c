"""A simulation process that starts warm, while its SuperLink still starts.

Flower's SuperLink starts a process for a run once the run is there. That process then
loads torch and transformers for several seconds, in which nothing else can be done.
This program takes the place of the `flower-superexec` next to a SuperLink, takes its
options, and loads them at once::

    flower-superlink --simulation --isolation process --port 8000 ...
    python -m sims.processes.warm_simulation --insecure ...

The run's process is forked from a keeper, as in `sims.processes.warm_clients`, and does
what Flower's `flwr-simulation` does with the app that the run brought along.
"""

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.constant import TaskType

from sims.processes.libraries import MODELS
from sims.processes.warm_clients import LIBRARIES, Task, fork_keeper, use_keeper

APP = Path(__file__).resolve().parents[2]
ADDRESS = "--runtime-api-address"
LOOK_SECONDS = 0.05
POLL_SECONDS = "0.3"
"""How often the SuperLink is asked for a run; Flower's own default is a second."""


def main() -> None:
    """Fork the keeper, wait for the SuperLink, and do what `flower-superexec` does."""
    os.environ.setdefault("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", POLL_SECONDS)
    libraries = ("flwr.simulation.app", "ray", *LIBRARIES, *MODELS)
    use_keeper(fork_keeper(run_simulation, libraries), TaskType.SIMULATION)
    wait_for(sys.argv[sys.argv.index(ADDRESS) + 1])
    flower_superexec()


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


if __name__ == "__main__":
    main()
