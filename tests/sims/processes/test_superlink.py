"""Speaking with a SuperLink, and ending what was started to do so."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from flwr.supercore.error import ApiErrorCode
from flwr.supercore.error.catalog import API_ERROR_MAP
from hypothesis import given
from hypothesis import strategies as st

from server.config import default_run_config
from sims.errors import RunFailedError
from sims.processes.superlink import (
    FORGOTTEN,
    RUN_LOG,
    SuperLink,
    executable,
    free_port,
    program,
    scratch_folder,
    write_toml,
)
from strategies.scenario import FlatValue
from tests.processes import is_gone, lives, needs_proc
from tests.server.test_config import flat_items

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
        yield SuperLink(scratch, os.environ)


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


@needs_proc
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
    monkeypatch.setattr("sims.processes.superlink.executable", lambda _: "/bin/echo")
    with pytest.raises(RunFailedError, match="`flwr run` failed: run nonsense"):
        link.call(["run", "nonsense"])


def test_flower_says_of_an_unknown_run_what_is_looked_for() -> None:
    """And of no other error."""
    found = {
        code: spec.public_message
        for code, spec in API_ERROR_MAP.items()
        if FORGOTTEN in spec.public_message
    }
    assert list(found) == [ApiErrorCode.RUN_ID_NOT_FOUND]


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
