"""A console can follow a run line by line."""

import json
from pathlib import Path

import pytest

from server.progress import PHASE_NAMES, Progress
from strategies.messages import Phase


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
