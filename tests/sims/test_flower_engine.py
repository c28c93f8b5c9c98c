"""Starting, asking and ending Flower's programs."""

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import default_run_config
from sims.errors import RunFailedError
from sims.flower_engine import (
    RUN_LOG,
    SuperLink,
    executable,
    free_port,
    program,
    scratch_folder,
    write_toml,
)
from sims.guard import end_processes_of, processes_of
from strategies.scenario import FlatValue
from tests.server.test_config import flat_items
from tests.trees import ROOT

SLEEP = "import time; time.sleep(60)"
# A parent that starts a child which ignores requests to end, and says its number.
STUBBORN = f"""
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
print(subprocess.Popen([sys.executable, "-c", child]).pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def link() -> Iterator[SuperLink]:
    """Lend the scratch folder and environment of a SuperLink that is not there."""
    with scratch_folder() as scratch:
        (scratch / "empty").mkdir()
        marked = {**os.environ, "FLWR_HOME": f"/nowhere/{uuid4().hex}"}
        yield SuperLink(scratch, marked)


@given(
    flat=st.dictionaries(
        st.sampled_from(sorted(default_run_config())),
        st.booleans()
        | st.integers(-(2**62), 2**62)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    )
)
def test_toml_gives_back_the_flat_settings(flat: Mapping[str, FlatValue]) -> None:
    """Flower reads a file of ours and flattens it."""
    assert dict(flat_items(tomllib.loads(write_toml(flat)))) == flat


def lives(process: int) -> bool:
    """Whether a process runs and has not just been ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def is_gone(process: int, seconds: float = 20) -> bool:
    """Wait until a process is gone."""
    deadline = time.monotonic() + seconds
    while lives(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not lives(process)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_program_ends_with_its_block_and_so_do_its_children(link: SuperLink) -> None:
    """Even children that ignore a request to end."""
    arguments = [sys.executable, "-c", STUBBORN]
    with program(arguments, link, subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert lives(process.pid)
        assert lives(child)
    assert is_gone(process.pid)
    assert is_gone(child)


GUARDED = """
import os, signal, subprocess, sys
from pathlib import Path
from sims.guard import guarded

mark, scratch = sys.argv[1:3]
name, _, value = mark.partition("=")
with guarded(mark, Path(scratch)):
    environment = {**os.environ, name: value}
    subprocess.Popen(
        [sys.executable, "-c", sys.argv[3]], env=environment, start_new_session=True
    )
    print("started", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ends"])
def test_what_a_command_started_ends_with_it(tmp_path: Path, killed: bool) -> None:
    """Even if it is killed and can clean nothing up."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mark = f"FLWR_HOME={scratch}"
    with subprocess.Popen(
        [sys.executable, "-c", GUARDED, mark, str(scratch), SLEEP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"started\n"
        (started,) = wait_for_listing(mark)
        if killed:
            command.kill()
    assert is_gone(started)
    deadline = time.monotonic() + 20
    while scratch.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not scratch.exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_what_left_the_session_is_found_by_its_home(link: SuperLink) -> None:
    """As Ray's workers do; nobody else's processes are."""
    mark = f"FLWR_HOME={link.environment['FLWR_HOME']}"
    with subprocess.Popen(
        [sys.executable, "-c", SLEEP],
        env=dict(link.environment),
        start_new_session=True,
    ) as stray:
        assert wait_for_listing(mark) == [stray.pid]
        end_processes_of(mark)
    assert stray.returncode == -9
    assert processes_of(mark) == []


REPLACING = """
import os, subprocess, sys
name, _, value = sys.argv[1].partition("=")
for _ in range(2):
    subprocess.run(
        [sys.executable, "-c", sys.argv[2]], env={**os.environ, name: value}
    )
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_what_is_started_in_place_of_an_ended_process_ends_too(tmp_path: Path) -> None:
    """Ray's raylet starts a new worker as soon as one is gone."""
    mark = f"FLWR_HOME={tmp_path}"
    with subprocess.Popen([sys.executable, "-c", REPLACING, mark, SLEEP]) as replacing:
        wait_for_listing(mark)
        end_processes_of(mark)
        assert replacing.wait(20) == 0
    assert processes_of(mark) == []


def wait_for_listing(mark: str) -> list[int]:
    """Give a process time to be what it is started as."""
    deadline = time.monotonic() + 20
    while not (found := processes_of(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_the_first_exception_is_the_reason(link: SuperLink) -> None:
    """What follows it is what Flower makes of it."""
    (link.scratch / RUN_LOG).write_text(
        "INFO: ServerApp Error: none yet\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in main\neditor.OwnError: 3 of 4 refused\n'
        "RuntimeError: Simulation Runtime crashed.\n"
    )
    assert link.first_exception() == "editor.OwnError: 3 of 4 refused"


def test_an_answer_that_is_no_json_is_a_failed_run(
    link: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the program said."""
    monkeypatch.setattr("sims.flower_engine.executable", lambda _: "/bin/echo")
    with pytest.raises(RunFailedError, match="`flwr run` failed: run nonsense"):
        link.call(["run", "nonsense"])


def test_a_program_that_is_not_installed_is_named() -> None:
    """And what installs it."""
    with pytest.raises(RunFailedError, match=r"`flwr-none` is not .*make demo"):
        executable("flwr-none")


def test_free_ports_can_be_listened_at() -> None:
    """Ports of ordinary users."""
    assert all(1024 < free_port() < 65536 for _ in range(20))


def test_scratch_folders_vanish(tmp_path: Path) -> None:
    """Whatever is in them."""
    with scratch_folder() as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("c")
    assert not folder.exists()
    assert tmp_path.exists()
