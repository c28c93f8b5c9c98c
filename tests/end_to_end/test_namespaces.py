"""A federation among network namespaces runs to its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.namespaces import SKIPPED
from server.report.data import read_report
from tests.trees import ROOT


def test_a_run_among_network_namespaces_completes(tmp_path: Path) -> None:
    """The server on one host, a party on each of two others, TLS between them."""
    results = tmp_path / "results"
    command = [sys.executable, "-m", "deploy.namespaces", "--output", str(results)]
    command += ["--set", "parties.requests-per-round=2"]
    command += ["--set", "editing.v-num-grad-steps=2"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        printed, _ = program.communicate()
    if program.returncode == SKIPPED:
        pytest.skip(printed.strip())
    assert program.returncode == 0, printed
    assert read_report(results / "report.json").runs[0].metrics[-1].requests == 4
    listed = subprocess.run(
        ["ip", "netns", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert f"ce-{program.pid}-" not in listed
