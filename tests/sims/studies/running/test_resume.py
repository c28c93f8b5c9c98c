"""A study that is stopped keeps its finished trials and resumes to the same page."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from editing.base.errors import InputError
from editing.requests.edit_request import read_requests, to_counterfact
from server.config import RunConfig
from sims.errors import RunFailedError
from sims.processes.guard import children
from sims.runs.jobs import execute_trial
from sims.studies.rounds.forgetting import Forgetting
from sims.studies.running.order import Order
from sims.studies.running.record import RECORD, UNFINISHED
from sims.studies.running.runner import run_study
from tests.processes import accept_interrupts
from tests.trees import ROOT

SECONDS = 60.0


def settings_of(world: Path) -> tuple[str, ...]:
    """Give the settings of a study of three small trials."""
    return (
        f"model.path={world}",
        f"requests.source={world / 'requests.json'}",
        "parties.requests-per-round=1",
        "run.rounds=2",
        "editing.v_num_grad_steps=3",
        "editing.schedule=frozen-uniform",
    )


class Stopping:
    """Runs trials, and is stopped in one of them."""

    def __init__(self, stop: BaseException | None = None, after: int = 1) -> None:
        """Raise `stop` in the trial after so many."""
        self.stop, self.after = stop, after
        self.run: list[str] = []

    def __call__(self, config: RunConfig, folder: Path, engine: str) -> None:
        """Run a trial, or leave half of one."""
        if self.stop is not None and len(self.run) == self.after:
            half = folder.with_name(folder.name + UNFINISHED)
            half.mkdir(parents=True)
            (half / "report.json").write_text("{")
            raise self.stop
        self.run.append(folder.name)
        execute_trial(config, folder, engine)


def page_of(folder: Path) -> dict[str, str]:
    """Read a study's page and numbers, without times and without its folder's name."""
    record = json.loads((folder / "study.json").read_text())
    for name in ("seconds", "date"):
        record.pop(name)
    for trial in record["trials"]:
        trial.pop("seconds")
    page = (folder / "report.md").read_text().partition("It took")[0]
    figures = {each.name: each.read_text() for each in folder.glob("figure_*.csv")}
    assert figures
    return {"record": json.dumps(record), "page": page, **figures}


@pytest.fixture(scope="module")
def uninterrupted(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Read the page of a study that nothing stops."""
    folder = tmp_path_factory.mktemp("studies") / "out"
    run_study(Forgetting(), Order(None, settings_of(world)), folder, Stopping())
    return page_of(folder)


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), RunFailedError("no luck"), ValueError("a fault")]
)
def test_a_resumed_study_runs_what_is_missing_and_ends_with_the_same_page(
    stop: BaseException,
    uninterrupted: dict[str, str],
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Finished trials stay, and one that was stopped half-way runs again."""
    order = Order(None, settings_of(world))
    out, draft = tmp_path / "out", tmp_path / f"out{UNFINISHED}"
    first = Stopping(stop)
    with pytest.raises(type(stop)) as raised:
        run_study(Forgetting(), order, out, first)
    said = capsys.readouterr().err + str(raised.value)
    assert f"1 of 3 trials are kept in {draft}" in said
    assert f"python -m sims study forgetting --resume {draft}" in said
    assert [each.name for each in (draft / "runs" / "seed_0").iterdir()] == first.run
    assert not out.exists()
    second = Stopping()
    run_study(Forgetting(), order, None, second, resume=out)
    assert len(second.run) == 2
    assert not set(first.run) & set(second.run)
    assert not draft.exists()
    assert not (out / RECORD).exists()
    assert page_of(out) == uninterrupted


def test_nothing_is_left_where_no_trial_was_finished(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to resume."""
    order = Order(None, settings_of(world))
    with pytest.raises(KeyboardInterrupt):
        run_study(
            Forgetting(), order, tmp_path / "out", Stopping(KeyboardInterrupt(), 0)
        )
    assert list(tmp_path.iterdir()) == []
    assert "nothing is kept" in capsys.readouterr().err


SCENARIO = "parties.count = 2\nprior.weight = 5\n"


def change_pool(pool: Path, _: Path) -> None:
    """Change the objects in a file of requests."""
    records = [
        to_counterfact(each.model_copy(update={"target_new": "music"}))
        for each in read_requests(pool)
    ]
    pool.write_text(json.dumps(records))


def change_scenario(_: Path, scenario: Path) -> None:
    """Change a setting."""
    scenario.write_text(SCENARIO.replace("5", "7"))


@pytest.mark.parametrize(
    ("change", "named"),
    [(change_pool, "requests of the trial"), (change_scenario, "`prior.weight`")],
)
def test_a_study_whose_files_have_changed_is_not_resumed(
    change: Callable[[Path, Path], None],
    named: str,
    world: Path,
    tmp_path: Path,
) -> None:
    """Its page would mix two studies; what differs is named, and nothing is lost."""
    pool, scenario = tmp_path / "pool.json", tmp_path / "mine.toml"
    pool.write_text((world / "requests.json").read_text())
    scenario.write_text(SCENARIO)
    settings = (*settings_of(world), f"requests.source={pool}")
    order = Order(scenario, settings)
    stopped = Stopping(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_study(Forgetting(), order, tmp_path / "out", stopped)
    with pytest.raises(InputError, match="An unfinished study is in"):
        run_study(Forgetting(), order, tmp_path / "out", Stopping())
    change(pool, scenario)
    with pytest.raises(InputError, match=named):
        run_study(Forgetting(), order, None, Stopping(), resume=tmp_path / "out")
    kept = tmp_path / f"out{UNFINISHED}" / "runs" / "seed_0" / stopped.run[0]
    assert (kept / "report.json").is_file()


def wait_for_end(numbers: list[int]) -> None:
    """Wait until processes have ended, and fail if they do not."""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{number}").exists() for number in numbers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def command(world: Path, folder: Path) -> list[str]:
    """Write a study of many trials, two at a time."""
    words = ["study", "forgetting", "--jobs", "2", "--output", str(folder)]
    words += ["--seeds", ",".join(map(str, range(8)))]
    return [*words, *(f"--set={each}" for each in settings_of(world))]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sims", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_interrupts,  # noqa: PLW1509 - it starts no thread
        start_new_session=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_a_study_of_several_processes_at_once(
    number: signal.Signals, code: int, world: Path, tmp_path: Path
) -> None:
    """In one line that says what is kept; its processes end with it."""
    process = start(command(world, tmp_path / "out"))
    assert process.stderr is not None
    for line in process.stderr:
        if line.lstrip().startswith("1/24"):
            break
    workers = children(process.pid)
    assert len(workers) >= 2
    began = time.monotonic()
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=SECONDS)
    assert time.monotonic() - began < 15
    assert process.returncode == code
    wait_for_end(workers)
    draft = tmp_path / f"out{UNFINISHED}"
    *_, last = errors.splitlines()
    assert last.startswith("Stopped. ")
    assert last.endswith(f"python -m sims study forgetting --resume {draft}")
    assert "Traceback" not in errors
    kept = [each.name for each in (draft / "runs").glob("seed_*/*")]
    assert 0 < len(kept) < 24
    assert not any(name.endswith(UNFINISHED) for name in kept)
