"""When a job's parts happen: what takes long is begun first, and ended last."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, cast

import pytest

from editing.base.errors import InputError
from editing.malmen.files import FILE, read_hypernetwork
from server.config import RunConfig, read_run_config
from sims.runs import checks, jobs
from sims.runs.engines import Run
from strategies.scenario import FlatValue
from tests.federation import settings_of
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


class ForkServer:
    """Does what a keeper's process would do, or fails as it may."""

    def __init__(self, printed: str | None, status: int = 0) -> None:
        """Answer every call with this output and status; None is no keeper."""
        self.printed, self.status = printed, status

    def call(self, function: str, _: object) -> CompletedProcess[str] | None:
        """Answer."""
        assert function == "sims.runs.checks:answer"
        if self.printed is None:
            return None
        return CompletedProcess(function, self.status, self.printed, "")


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

    class Keeper(ForkServer):
        def call(self, *_: object) -> CompletedProcess[str] | None:
            happened.append("checked")
            return super().call("sims.runs.checks:answer", [])

    @contextmanager
    def engine(*_: object, **__: object) -> Iterator[tuple[Run, ForkServer]]:
        happened.append("started")
        yield write_results, Keeper('{"refused": null}')
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

    @contextmanager
    def engine(*_: object, **__: object) -> Iterator[tuple[Run, ForkServer]]:
        try:
            yield write_results, ForkServer('{"refused": "no such model"}')
        finally:
            ended.append(True)

    monkeypatch.setattr(jobs, "choose_engine", engine)
    with pytest.raises(InputError, match="no such model"):
        jobs.run_job(RunConfig(), "flower", tmp_path / "results")
    assert ended == [True]
    assert list(tmp_path.iterdir()) == []


def test_a_check_elsewhere_refuses_what_is_refused_there(tmp_path: Path) -> None:
    """With the words of the refusal; whatever else is printed."""
    way = cast(Any, ForkServer('noise\n{"refused": null}\n'))
    jobs.check(RunConfig(), tmp_path, "flower", way)
    way = cast(Any, ForkServer('{"refused": "no such model"}\n'))
    with pytest.raises(InputError, match=r"^no such model$"):
        jobs.check(RunConfig(), tmp_path, "flower", way)


@pytest.mark.parametrize(
    "way", [ForkServer(None), ForkServer("", 1)], ids=["none", "fails"]
)
def test_a_check_that_fails_elsewhere_is_done_here(
    way: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its error is raised here, as what it is."""
    asked: list[object] = []
    monkeypatch.setattr(checks, "check_early", lambda *given: asked.extend(given))
    jobs.check(RunConfig(), tmp_path, "flower", cast(Any, way))
    assert asked == [RunConfig(), tmp_path, "flower"]


def test_a_training_leaves_a_hypernetwork_and_says_where(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the folder of results, as any run's, which cannot be resumed any more."""
    training: dict[str, FlatValue] = {"steps": 1, "share": 1.0, "rank": 2}
    config = read_run_config(settings_of(world, training=training))
    folder = tmp_path / "results"
    jobs.run_job(config, "in-process", folder)
    assert read_hypernetwork(folder / FILE).shape.rank == 2
    assert str(folder / "report.md") in capsys.readouterr().out.replace("\n", "")
    assert not (tmp_path / "results.unfinished").exists()
    with pytest.raises(InputError, match="is finished"):
        jobs.resume_job(folder, "in-process", None)
