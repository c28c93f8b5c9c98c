"""When a job's parts happen: what takes long is begun first, and ended last."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.config import RunConfig
from sims.runs import jobs
from sims.runs.engines import Check, Run
from tests.server.report.test_data import MERGES
from tests.sims.cli.test_main import HEAVY, write_results
from tests.trees import ROOT

STARTED = """
import sys
from sims.cli.main import main
from sims.runs import jobs

def choose_engine(name, *_, **__):
    print(*sys.modules)
    raise SystemExit(name != "flower")

jobs.choose_engine = choose_engine
main(["compare", "--output", "results"])
"""


def test_flower_starts_before_any_heavy_library_is_loaded(tmp_path: Path) -> None:
    """It takes as long as they do, at the same time."""
    done = subprocess.run(
        [sys.executable, "-c", STARTED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sims.runs.jobs" in done.stdout.split()
    assert not HEAVY & set(done.stdout.split())


def test_the_results_are_shown_before_the_engine_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And are in their place by then: ending Flower takes a while."""
    happened: list[str] = []

    def check(*_: object) -> None:
        happened.append("checked")

    @contextmanager
    def engine(*_: object, **__: object) -> Iterator[tuple[Run, Check]]:
        happened.append("started")
        yield write_results, check
        assert (tmp_path / "results" / "report.html").is_file()
        happened.append(capsys.readouterr().out)

    monkeypatch.setattr(jobs, "choose_engine", engine)
    jobs.run_job(RunConfig(), "flower", tmp_path / "results")
    *before, shown = happened
    assert before == ["started", "checked"]
    assert "Report: " in shown
    assert all(name in shown for name in MERGES)


def test_a_refused_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its engine was started before it was checked, the engine ends."""
    ended = []

    def refuse(*_: object) -> None:
        raise jobs.InputError("no such model")

    @contextmanager
    def engine(*_: object, **__: object) -> Iterator[tuple[Run, Check]]:
        try:
            yield write_results, refuse
        finally:
            ended.append(True)

    monkeypatch.setattr(jobs, "choose_engine", engine)
    with pytest.raises(jobs.InputError, match="no such model"):
        jobs.run_job(RunConfig(), "flower", tmp_path / "results")
    assert ended == [True]
    assert list(tmp_path.iterdir()) == []
