"""Laws of the fork server: a call elsewhere gives what it prints, and how it ended."""

import json
import os
import sys
from pathlib import Path

import pytest

from sims.processes.fork_server import ForkedCall, ForkServer, status_of
from sims.processes.programs import Program
from tests.trees import ROOT

KEEPER = """
import json, os, sys
sys.path.append(sys.argv[2])
from sims.processes.fork_server import ForkedCall
with os.fdopen(os.open(sys.argv[1], os.O_RDWR)) as lines:
    for line in lines:
        if os.fork() == 0:
            ForkedCall(**json.loads(line)).run()
            os._exit(0)
        os.wait()
        if "last" in line:
            break
"""
HELPER = """
import sys

def double():
    print(*sys.argv, *sys.argv[1:])
    print("done", file=sys.stderr)

def fail():
    raise SystemExit(3)

def crash():
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


def lay_out(folder: Path, code: str) -> ForkServer:
    """Make a keeper that runs some code, and the way to it."""
    (folder / "helper.py").write_text(HELPER)
    pipe = folder / "calls"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", code, str(pipe), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    log = folder / "keeper.log"
    return ForkServer(pipe, Program("keeper", command, folder, environment, log))


def test_a_forked_call_gives_what_it_prints_and_how_it_ends(tmp_path: Path) -> None:
    """Also one that fails; each has a process of its own."""
    fork_server = lay_out(tmp_path, KEEPER)
    with fork_server.keeper.running():
        done = fork_server.call("helper:double", ["a b", "c"])
        assert done is not None
        assert (done.returncode, done.stdout) == (0, "double a b c a b c\n")
        assert done.stderr == "done\n"
        failed = fork_server.call("helper:fail", [])
        assert failed is not None
        assert failed.returncode == 3
        killed = fork_server.call("helper:crash", [])
        assert killed is not None
        assert killed.returncode == -9
        missing = fork_server.call("helper:missing", ["last"])
        assert missing is not None
        assert missing.returncode == 1
        assert "AttributeError" in missing.stderr


def test_without_a_keeper_a_forked_call_is_not_done(tmp_path: Path) -> None:
    """Its caller does it in another way."""
    fork_server = lay_out(tmp_path, "raise SystemExit(1)")
    assert fork_server.call("helper:double", []) is None  # never started
    with fork_server.keeper.running():
        assert fork_server.call("helper:double", []) is None


def test_a_forked_call_travels_as_one_line(tmp_path: Path) -> None:
    """Whatever its arguments are."""
    asked = ForkedCall("helper:double", ("two\nlines", "ü"), str(tmp_path))
    line = json.dumps(vars(asked))
    assert "\n" not in line
    read = ForkedCall(**json.loads(line))
    assert (read.call, [*read.arguments]) == (asked.call, [*asked.arguments])


@pytest.mark.parametrize(
    ("ending", "status"),
    [(SystemExit(), 0), (SystemExit(3), 3), (SystemExit("why"), 1), (MemoryError(), 1)],
)
def test_a_process_ends_with_the_status_of_its_work(
    ending: BaseException, status: int
) -> None:
    """Whatever ends it."""

    def work() -> None:
        raise ending

    assert status_of(work) == status
    assert status_of(lambda: None) == 0
