"""A run under Flower that was killed resumes under Flower, bit for bit."""

import os
import subprocess
import sys
import time
from pathlib import Path

from editing.algebra.deltas import load_delta
from server.report.data import read_report
from tests.federation import assert_same_bits
from tests.processes import processes_of
from tests.sites import command_here
from tests.trees import ROOT

SECONDS = 600.0
"""After which a test gives up; far more than anything takes."""


def settings_for(world: Path) -> list[str]:
    """Write the settings of four short rounds."""
    settings = {
        "model.path": world,
        "requests.source": world / "requests.json",
        "parties.count": 2,
        "parties.requests-per-round": 1,
        "run.rounds": 4,
        "editing.schedule": "frozen-uniform",
    }
    return [f"--set={key}={value}" for key, value in settings.items()]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a run under Flower in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "sims", "run", "--engine", "flower", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(what: Path) -> None:
    """Wait until a file is there.

    Raises:
        TimeoutError: If it does not come.
    """
    deadline = time.monotonic() + SECONDS
    while not what.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def test_a_run_killed_under_flower_resumes_and_leaves_no_process(
    world: Path, tmp_path: Path
) -> None:
    """After the kill nothing writes into the folder that is resumed.

    The uninterrupted run is one in this process, which computes the same bits.
    """
    settings = settings_for(world)
    whole = f"--output={tmp_path / 'whole'}"
    command_here("run", *settings, "--engine=in-process", whole)
    with start(tmp_path, *settings, "--output", "cut") as run:
        wait_for(tmp_path / "cut.unfinished" / "checkpoint" / "collabedit.safetensors")
        run.kill()
    assert not (tmp_path / "cut").exists()
    mark = f"COLLABEDIT_HOME={tmp_path / 'cut.unfinished'}"  # all its processes have it
    deadline = time.monotonic() + 20
    while processes_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(mark) == []
    assert start(tmp_path, "--resume", "cut").wait(SECONDS) == 0
    deltas = [
        load_delta(tmp_path / name / "delta.safetensors")[0]
        for name in ("cut", "whole")
    ]
    assert_same_bits(*deltas)
    reports = [read_report(tmp_path / n / "report.json") for n in ("cut", "whole")]
    assert reports[0].runs[0].metrics == reports[1].runs[0].metrics
