"""Whatever a guarded program started ends with it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from sims.processes.guard import guarded
from tests.processes import is_gone, lives, needs_proc
from tests.trees import ROOT

SLEEP = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"

# Three generations: the middle one ends at once and leaves its child, which ignores
# requests to end, has no variable of ours and a session of its own.
STRAY = f"""
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", {STUBBORN!r}], env={{}}, start_new_session=True
)
print(child.pid, flush=True)
"""
LEAVING = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {STRAY!r}])
time.sleep(60)
"""
# A stubborn parent with a new child for each that is gone.
REPLACING = f"""
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], env={{}})
    print(child.pid, flush=True)
    child.wait()
"""
COMMAND = """
import os, sys
from pathlib import Path
from sims.processes.guard import guarded

scratch, program = Path(sys.argv[1]), sys.argv[2]
command = [sys.executable, "-c", program]
with guarded(
    command, scratch, sys.stdout.buffer, environment=os.environ, folder=Path("/")
):
    sys.stdin.read()
"""


def read_process(output: IO[bytes] | None) -> int:
    """Read the number that a program prints."""
    assert output is not None
    return int(output.readline())


@needs_proc
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ends"])
@pytest.mark.parametrize("program", [LEAVING, REPLACING], ids=["leaving", "replacing"])
def test_what_a_command_started_ends_with_it(
    tmp_path: Path, program: str, killed: bool
) -> None:
    """Even if it is killed, and whoever was started has run away."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(scratch), program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as command:
        started = read_process(command.stdout)
        assert lives(started)
        if killed:
            command.kill()
    assert is_gone(started)
    deadline = time.monotonic() + 20
    while scratch.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not scratch.exists()  # the last thing that the guard does


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)],
    ids=["exit", "signal"],
)
def test_a_program_that_ends_ends_its_guard(
    tmp_path: Path, program: str, code: int
) -> None:
    """With its own exit code, so that whoever waits for it need not wait longer."""
    (tmp_path / "scratch").mkdir()
    with (
        (tmp_path / "log").open("wb") as log,
        guarded(
            [sys.executable, "-c", program],
            tmp_path / "scratch",
            log,
            environment=os.environ,
            folder=tmp_path,
        ) as process,
    ):
        assert process.wait(20) == code
