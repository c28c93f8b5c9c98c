"""Whatever a program started ends with it, even if the command is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sims.processes.programs import Program
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
from sims.processes.programs import Program

scratch, program = Path(sys.argv[1]), sys.argv[2]
command = [sys.executable, "-c", program]
log = scratch.with_name("log")
with Program("it", command, Path("/"), os.environ, log, scratch).running():
    sys.stdin.read()
"""


def read_process(log: Path, seconds: float = 20) -> int:
    """Read the number that a program prints to its log."""
    deadline = time.monotonic() + seconds
    while not (log.is_file() and "\n" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(log.read_text().splitlines()[0])


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
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as command:
        started = read_process(tmp_path / "log")
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
    command = [sys.executable, "-c", program]
    log = tmp_path / "log"
    with Program("it", command, tmp_path, dict(os.environ), log).running() as running:
        assert running.guard.wait(20) == code
