"""Laws of a warm simulation: it does what Flower's own program does."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Timer

import flwr.simulation.app
import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import LaunchResult

from sims.processes.superlink import free_port
from sims.processes.warm_clients import Task, WarmExecutor
from sims.processes.warm_simulation import APP, run_simulation, wait_for
from sims.processes.workers.libraries import MODELS
from tests.sims.processes.test_warm_clients import spec, task
from tests.trees import ROOT


def test_a_simulation_is_asked_of_its_keeper_in_one_line() -> None:
    """With all that Flower's own command would receive."""
    pipe = io.StringIO()
    executor = WarmExecutor(pipe, TaskType.SIMULATION)
    assert executor.launch(spec(TaskType.SIMULATION)) == LaunchResult.accepted()
    (line,) = pipe.getvalue().splitlines()
    assert Task(**json.loads(line)) == task("secret")


@pytest.mark.parametrize("certificate", [None, "ca.crt"])
def test_the_forked_process_is_flowers_own_and_finds_no_code_of_ours(
    certificate: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app is the one that the run brings along, not the one next to the keeper."""
    asked = Task("127.0.0.1:8000", "secret", certificate is None, certificate, 7)
    found = []

    def read_arguments() -> None:
        parser = flwr.simulation.app._parse_args_run_flwr_simulation()
        found.append(parser.parse_args())

    monkeypatch.setattr(flwr.simulation.app, "flwr_simulation", read_arguments)
    monkeypatch.setattr(sys, "argv", ["warm"])
    monkeypatch.setattr(sys, "path", ["", str(APP), *sys.path])
    run_simulation(asked)
    (given,) = found
    assert given.runtime_api_address == asked.runtime_api_address
    assert given.token == asked.token
    assert (given.insecure, given.root_certificates) == (asked.insecure, certificate)
    assert given.parent_pid == asked.parent_pid
    assert not given.runtime_dependency_install
    assert APP not in {Path(each).resolve() for each in sys.path}
    assert "" not in sys.path


BROKEN = """
import os, signal, sys, time
from sims.processes import warm_simulation as warm
warm.LIBRARIES = ("no_such_library",)
if os.fork() == 0:
    warm.keep(sys.argv[1])
time.sleep(60)
"""


def test_a_keeper_without_its_libraries_ends_whoever_relies_on_it(
    tmp_path: Path,
) -> None:
    """A run would wait for ever; its parent's end is noticed."""
    pipe = tmp_path / "calls"
    os.mkfifo(pipe)
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, str(pipe)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == -signal.SIGTERM
    assert "no_such_library" in done.stderr


def test_an_address_is_waited_for_until_something_listens_there() -> None:
    """The SuperLink starts at the same time."""
    port = free_port()
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        began = []

        def listen() -> None:
            began.append(True)
            server.listen()

        Timer(0.2, listen).start()
        wait_for(f"127.0.0.1:{port}")
        assert began


def test_the_libraries_of_models_are_there() -> None:
    """One that is not would be loaded by nobody, and noticed by nobody."""
    for name in MODELS:
        __import__(name)
        assert name in sys.modules
