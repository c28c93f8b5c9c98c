"""Programs that are started again, and killed whole."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sims.errors import RunFailedError
from sims.processes.programs import Program, command_line, read_while
from tests.processes import is_gone, lives, needs_proc

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "child"])
print("child", child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Lend a program with a child, which is ended whatever happens."""
    command = [sys.executable, "-c", PARENT]
    log = tmp_path / "program.log"
    made = Program("parent", command, tmp_path, dict(os.environ), log)
    yield made
    made.terminate()


def child_of(program: Program, times: int = 1) -> int:
    """Wait for a start's child, and give it."""
    program.wait_for("child", times=times)
    return int(program.read_log().split()[-1])


@needs_proc
@pytest.mark.parametrize("way", ["kill", "terminate"])
def test_it_ends_whole_and_can_be_started_again(program: Program, way: str) -> None:
    """With all that it started; its log goes on."""
    program.start()
    first = child_of(program)
    own = program.processes()[0]
    getattr(program, way)()
    assert not program.is_running
    assert is_gone(own)
    assert is_gone(first)
    program.start()
    second = child_of(program, times=2)
    assert lives(second)
    assert second != first


@needs_proc
def test_its_processes_are_found_by_their_command_lines(program: Program) -> None:
    """Itself first, then what it started; and nobody else's."""
    assert program.processes() == []
    program.start()
    child = child_of(program)
    own, *others = program.processes()
    assert others == [child]
    assert program.processes("child") == [own, child]  # the parent's code says it too
    assert "import subprocess" in command_line(own)
    program.signal(signal.SIGKILL, [child])
    assert is_gone(child)
    assert lives(own)


def test_a_running_program_is_not_started_twice(program: Program) -> None:
    """The first one would be lost."""
    program.start()
    with pytest.raises(RuntimeError, match="runs already"):
        program.start()


def test_what_does_not_come_is_named_with_the_log(program: Program) -> None:
    """Whether the program is silent or has ended."""
    program.start()
    child_of(program)
    with pytest.raises(RunFailedError, match=r"parent is silent where 'more'.*child"):
        program.wait_for("more", 0.1)
    program.kill()
    with pytest.raises(RunFailedError, match="parent ended where 'more'"):
        program.wait_for("more")


def test_a_program_that_was_never_started_has_no_guard(program: Program) -> None:
    """And does not run."""
    assert not program.is_running
    with pytest.raises(RuntimeError, match="never started"):
        _ = program.guard


def test_reading_ends_with_the_stream_or_with_what_is_waited_for() -> None:
    """A stream that is silent and open is left once its reader needs no more."""
    reading, writing = os.pipe()
    asked = []

    def is_over() -> bool:
        asked.append(True)
        return len(asked) > 3

    os.write(writing, b"a line\n")
    assert list(read_while(reading, is_over, 0.01)) == [b"a line\n"]
    assert len(asked) == 4  # before each look, and the stream is still open
    os.write(writing, b"the last one\n")
    os.close(writing)
    assert list(read_while(reading, lambda: False, 0.01)) == [b"the last one\n"]
    os.close(reading)
