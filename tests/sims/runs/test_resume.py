"""A run that was killed goes on, and ends where the uninterrupted one ends."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest

from editing.algebra.deltas import load_delta
from server.report.data import RoundMetrics, read_report
from sims.cli.main import main
from tests.federation import assert_same_bits
from tests.forks import call_forked
from tests.trees import ROOT

CONTRIBUTE = "clients.contribution.contribute"
"""Two parties do in each exchange, and `frozen-uniform` has one a round."""

GATHER = "sims.runs.jobs.gather_cases"
"""Called once, when the server's results are in their place."""

Kill = tuple[str, int, str]
"""In which function, in which of its calls, by which signal."""


def command(world: Path, *more: str) -> list[str]:
    """Write the arguments of a quick run of four rounds."""
    settings = {
        "model.path": world,
        "requests.source": world / "requests.json",
        "parties.count": 2,
        "parties.requests-per-round": 1,
        "editing.schedule": "frozen-uniform",
        "run.rounds": 4,
    }
    chosen = [f"--set={key}={value}" for key, value in settings.items()]
    return ["--engine", "in-process", *chosen, *more]


def call(
    folder: Path, *arguments: str, killed: Kill | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own, which may be killed midway."""

    def body() -> None:
        if killed is not None:
            stop_at(*killed)
        main(arguments)

    return call_forked(body, folder)


def stop_at(function: str, call: int, number: str) -> None:
    """Signal this process where a function is called for the so-manieth time."""
    module, _, name = function.rpartition(".")
    honest, calls = getattr(import_module(module), name), count(1)

    def replaced(*arguments: object, **named: object) -> object:
        if next(calls) == call:
            os.kill(os.getpid(), getattr(signal, number))
        return honest(*arguments, **named)

    setattr(import_module(module), name, replaced)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Call the command line in this process, and return why it refuses."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def uninterrupted(
    world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Run a command to its end, once for all tests."""

    @cache
    def run(verb: str) -> Path:
        folder = tmp_path_factory.mktemp("uninterrupted") / "whole"
        done = call(ROOT, verb, *command(world, "--output", str(folder)))
        assert done.returncode == 0, done.stderr
        return folder

    return run


def metrics_of(folder: Path) -> list[tuple[str, tuple[RoundMetrics, ...], float]]:
    """All that a report says but for times."""
    report = read_report(folder / "report.json")
    found = [(run.merge, run.metrics, run.bytes_per_party) for run in report.runs]
    assert report.unedited is not None
    return [*found, ("unedited", (report.unedited,), 0.0)]


def files_of(folder: Path) -> set[str]:
    """All files of a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("verb", "killed"),
    [
        ("run", (CONTRIBUTE, 6, "SIGKILL")),  # the second party, in the third round
        ("run", (CONTRIBUTE, 3, "SIGINT")),
        ("compare", (CONTRIBUTE, 19, "SIGKILL")),  # the third merge's second round
        ("compare", (GATHER, 1, "SIGKILL")),
    ],
    ids=["killed", "interrupted", "comparison", "aggregation"],
)
def test_a_stopped_run_resumes_after_its_last_completed_round_bit_for_bit(
    world: Path,
    tmp_path: Path,
    uninterrupted: Callable[[str], Path],
    verb: str,
    killed: Kill,
) -> None:
    """By updates, metrics, cases and the files that are there."""
    whole, cut = uninterrupted(verb), tmp_path / "cut"
    stopped = call(tmp_path, verb, *command(world, "--output", "cut"), killed=killed)
    expected = -signal.SIGKILL if killed[-1] == "SIGKILL" else 130
    assert stopped.returncode == expected, stopped.stderr
    assert not cut.exists()
    assert list((tmp_path / "cut.unfinished" / "checkpoint").iterdir())
    resumed = call(tmp_path, verb, "--engine", "in-process", "--resume", "cut")
    assert resumed.returncode == 0, resumed.stderr
    assert "round 1" not in resumed.stderr or verb == "compare"
    for merge in [path.parent for path in whole.rglob("delta.safetensors")]:
        theirs = cut / merge.relative_to(whole)
        ours, _ = load_delta(merge / "delta.safetensors")
        assert_same_bits(load_delta(theirs / "delta.safetensors")[0], ours)
        for cases in (merge / "rounds").iterdir():
            again = (theirs / "rounds" / cases.name).read_text()
            assert untimed(cases.read_text()) == untimed(again)
    assert metrics_of(cut) == metrics_of(whole)
    assert files_of(cut) == files_of(whole)
    assert not (tmp_path / "cut.unfinished").exists()


def untimed(lines: str) -> list[dict[str, object]]:
    """Read cases without the time that evaluating them took."""
    return [
        {name: value for name, value in json.loads(line).items() if name != "time"}
        for line in lines.splitlines()
    ]


def test_a_run_stopped_in_its_first_round_leaves_nothing(
    world: Path, tmp_path: Path
) -> None:
    """There is nothing to go on from."""
    arguments = command(world, "--output", "cut")
    call(tmp_path, "run", *arguments, killed=(CONTRIBUTE, 1, "SIGINT"))
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_overwritten_and_goes_on_as_it_was_begun(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is refused says what to do."""
    monkeypatch.chdir(tmp_path)
    arguments = command(world, "--output", "cut")
    call(tmp_path, "run", *arguments, killed=(CONTRIBUTE, 4, "SIGKILL"))
    again = refused(capsys, "run", *arguments)
    assert "cut.unfinished" in again
    assert "--resume" in again
    assert "was begun by `run`" in refused(capsys, "compare", "--resume", "cut")
    settings = tmp_path / "cut.unfinished" / "settings.json"
    config = json.loads(settings.read_text())
    config["prior"]["memory_weight"] = 0.5
    settings.write_text(json.dumps(config))
    changed = refused(capsys, "run", "--engine", "in-process", "--resume", "cut")
    assert "another prior.memory_weight" in changed


def test_a_run_does_not_go_on_with_requests_that_were_changed(
    world: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Later rounds would edit other requests than the ones they were begun with."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "mine.json"
    requests = json.loads((world / "requests.json").read_text())
    source.write_text(json.dumps(requests))
    named = f"--set=requests.source={source}"
    arguments = command(world, named, "--output", "cut")
    call(tmp_path, "run", *arguments, killed=(CONTRIBUTE, 4, "SIGKILL"))
    source.write_text(json.dumps([requests[-1], *requests[:-1]]))
    changed = refused(capsys, "run", "--engine", "in-process", "--resume", "cut")
    assert "another inputs.requests;" in changed
    source.write_text(json.dumps(requests))
    again = call(tmp_path, "run", "--engine", "in-process", "--resume", "cut")
    assert again.returncode == 0, again.stderr
