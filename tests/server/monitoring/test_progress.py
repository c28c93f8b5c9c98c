"""A console can follow a run line by line, and others hear of all that happens."""

import json
import logging
from pathlib import Path

import pytest

from server.monitoring.progress import (
    PHASE_NAMES,
    Event,
    MergeStart,
    Progress,
    RunEnd,
    Step,
)
from server.report.data import RoundMetrics
from strategies.wire.messages import Phase
from tests.server.events import ended, exchanged


def lines_of(file: Path) -> list[dict[str, object]]:
    """Read the events so far."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_event_is_a_line_and_the_last_one_says_how_the_run_ended(
    tmp_path: Path,
) -> None:
    """Lines are only ever appended."""
    file = tmp_path / "progress.jsonl"
    Progress(str(file)).tell("covariance", 128)
    tell = Progress(str(file)).of_merge("ties")
    tell("train.targets", 2, 3, 5)
    Progress(str(file)).finish(Path("/results/é"))
    Progress(str(file)).fail("two\nlines", "input")
    assert lines_of(file) == [
        {
            "phase": "covariance",
            "merge": None,
            "round": None,
            "done": 128,
            "total": None,
        },
        {"phase": "targets", "merge": "ties", "round": 2, "done": 3, "total": 5},
        {"report": "/results/é"},
        {"error": "two\nlines", "kind": "input"},
    ]


def test_a_console_is_told_of_steps_losses_and_the_end_alone(tmp_path: Path) -> None:
    """What an exchange took and what a round came to is for other observers."""
    file = tmp_path / "progress.jsonl"
    progress = Progress(str(file))
    progress.begin("ties", 0)
    progress.of_exchanges("ties")(exchanged(0).record)
    progress.enter("ties", 1, RoundMetrics())
    assert not file.exists()
    progress.of_exchanges("ties")(exchanged(0, "it is late", number=3).record)
    progress.of_exchanges("ties")(exchanged(-1, "it is late", node=7).record)
    assert lines_of(file) == [
        {"message": "ties, round 3 goes on without party 0: it is late"},
        {"message": "ties, round 1 goes on without node 7: it is late"},
    ]


def test_every_observer_hears_every_event_in_order() -> None:
    """From the moment that it is named."""
    first, second = list[Event](), list[Event]()
    progress = Progress(None)
    progress.watch(first.append)
    progress.begin("collabedit", 2)
    progress.watch(second.append)
    progress.of_merge("collabedit")("evaluate.requests", 3, 1, 1)
    progress.of_exchanges("collabedit")(exchanged(0).record)
    progress.enter("collabedit", 3, ended(3).metrics)
    progress.finish(Path("/results"))
    assert first == [
        MergeStart("collabedit", 2),
        Step("evaluation", 1, 1, "collabedit", 3),
        exchanged(0),
        ended(3),
        RunEnd(Path("/results")),
    ]
    assert second == first[1:]


def test_who_cannot_write_is_left_out_and_the_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full disk of the log stops no run of weeks; the operator is told once."""
    heard = list[Event]()

    def write_nowhere(_: Event) -> None:
        raise OSError(28, "No space left on device")

    progress = Progress(None)
    progress.watch(write_nowhere)
    progress.watch(heard.append)
    with caplog.at_level(logging.WARNING):
        progress.begin("collabedit", 0)
        progress.begin("ties", 0)
    assert heard == [MergeStart("collabedit", 0), MergeStart("ties", 0)]
    assert [each.getMessage() for each in caplog.records] == [
        "the run goes on without writing its function (No space left on device)"
    ]


def test_of_what_nobody_foresaw_files_have_the_type_alone() -> None:
    """Its text may quote anything."""
    assert RunEnd(error="few parties", kind="run").reason == "few parties"
    unforeseen = RunEnd(error="KeyError: 'a prompt'", kind="program")
    assert unforeseen.reason == "KeyError; see Flower's log"
    assert RunEnd(Path("/results")).reason is None


def test_without_a_file_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a plain `flwr run`."""
    monkeypatch.chdir(tmp_path)
    for progress in (Progress(None), Progress("")):
        progress.tell("targets", 1, 2)
        progress.finish(tmp_path)
        progress.fail("x", "run")
    assert list(tmp_path.iterdir()) == []


def test_phases_have_names_for_people() -> None:
    """All but the last one, which is not counted."""
    assert PHASE_NAMES.keys() == {phase.value for phase in Phase} - {"query.forget"}
    assert not any("." in name for name in PHASE_NAMES.values())
