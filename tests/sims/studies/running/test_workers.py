"""Worker processes end at once when the study is stopped, however that happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sims.processes.guard import children
from tests.processes import accept_interrupts
from tests.trees import ROOT

PROGRAM = """
import sys, time
from sims.studies.running.workers import run_in_worker, worker_pool

def sleep(seconds):
    try:
        sys.stdout.write("begun\\n")
        sys.stdout.flush()
        time.sleep(seconds)
    finally:
        sys.stdout.write("cleaned up\\n")
        sys.stdout.flush()

if __name__ == "__main__":
    with worker_pool(2) as pool:
        for _ in range(6):
            pool.submit(run_in_worker, sleep, 300)
        if sys.argv[1] == "fail":
            sys.stdin.readline()
            raise ValueError
        time.sleep(300)
"""
SECONDS = 30.0
"""For how long a test waits; what is right takes far less, what is wrong 300 s."""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the program and wait until both processes are at work."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(path), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_interrupts,  # noqa: PLW1509 - it starts no thread
        start_new_session=True,  # as if in another terminal
    )
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == "begun\n"
    return process


def wait_for_end(numbers: list[int]) -> None:
    """Wait until processes have ended, and fail if they do not."""
    deadline = time.monotonic() + SECONDS
    while any(Path(f"/proc/{number}").exists() for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "to_all"),
    [
        (signal.SIGINT, False),  # as `kill -INT` does
        (signal.SIGINT, True),  # as a terminal does
        (signal.SIGKILL, False),
    ],
)
def test_processes_end_with_the_one_that_started_them(
    number: signal.Signals, to_all: bool, tmp_path: Path
) -> None:
    """No further trial is begun, and those that were running clean up."""
    process = start(tmp_path, "wait")
    workers = children(process.pid)
    assert len(workers) >= 2
    (os.killpg if to_all else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=SECONDS)
    wait_for_end(workers)
    assert output.split("\n")[:-1] == ["cleaned up", "cleaned up"]


def test_processes_end_when_the_block_fails(tmp_path: Path) -> None:
    """As when one trial of several fails."""
    process = start(tmp_path, "fail")
    output, errors = process.communicate("\n", timeout=SECONDS)
    assert output.count("cleaned up") == 2
    assert "begun" not in output
    assert errors.splitlines()[-1] == "ValueError"
