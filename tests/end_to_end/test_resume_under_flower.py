"""A run under Flower that was killed goes on under Flower, bit for bit."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editing.algebra.deltas import load_delta
from server.report.data import read_report
from tests.federation import assert_same_bits
from tests.processes import processes_of
from tests.trees import ROOT

SECONDS = 180.0


def start(world: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a run of four short rounds."""
    settings = {
        "model.path": world,
        "requests.source": world / "requests.json",
        "parties.count": 2,
        "parties.requests-per-round": 1,
        "run.rounds": 4,
        "editing.schedule": "frozen-uniform",
    }
    chosen = [f"--set={key}={value}" for key, value in settings.items()]
    arguments = more if "--resume" in more else (*chosen, *more)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "sims", "run", "--engine", "flower", *arguments],
        cwd=folder,
        env=environment,
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


@pytest.mark.end_to_end
def test_a_run_killed_under_flower_goes_on_and_leaves_no_process(
    world: Path, tmp_path: Path
) -> None:
    """After the kill nothing goes on writing into the folder that is resumed."""
    assert start(world, tmp_path, "--output", "whole").wait(SECONDS) == 0
    with start(world, tmp_path, "--output", "cut") as run:
        wait_for(tmp_path / "cut.unfinished" / "checkpoint" / "collabedit.safetensors")
        run.kill()
    assert not (tmp_path / "cut").exists()
    mark = f"COLLABEDIT_HOME={tmp_path / 'cut.unfinished'}"  # all processes have it
    deadline = time.monotonic() + 20
    while processes_of(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(mark) == []
    assert start(world, tmp_path, "--resume", "cut").wait(SECONDS) == 0
    deltas = [
        load_delta(tmp_path / name / "delta.safetensors")[0]
        for name in ("cut", "whole")
    ]
    assert_same_bits(*deltas)
    reports = [read_report(tmp_path / n / "report.json") for n in ("cut", "whole")]
    assert reports[0].runs[0].metrics == reports[1].runs[0].metrics
