"""An operator reads how a run stands, and what to do."""

import io
import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from editing.base.errors import InputError
from server.monitoring.events import (
    EVENTS,
    Event,
    PhaseProgress,
    RunEnded,
    now_utc,
    write_event,
)
from server.monitoring.status import SILENT_SECONDS, RunStatus, compute_status
from sims.cli.main import main
from sims.runs.status import advise, describe, find_events, show_status
from sims.runs.unfinished import CONNECTED, KEPT
from tests.server.events import NOW, exchanged, merging, started

SILENCE = timedelta(seconds=SILENT_SECONDS + 600)


EVENTS_SO_FAR: tuple[Event, ...] = (
    started("one"),
    merging("collabedit", 1),
    exchanged(0, name="hospital-a"),
    exchanged(1, "it did not reply within 5 s", number=2),
    PhaseProgress(
        time=NOW, phase="exchange", done=1, total=2, merge="collabedit", round=2
    ),
)
"""A run in its second round."""

FAILED = RunEnded(time=NOW, error="Round 2 has 1 parties [left]", cause="run")
FINISHED = RunEnded(time=NOW, folder="/results")


def status_of(*more: Event, updated: datetime | None = None) -> RunStatus:
    """Return the status of a run in its second round, by default updated just now."""
    status = compute_status([*EVENTS_SO_FAR, *more])
    assert status is not None
    return status.model_copy(update={"updated": updated or now_utc()})


def put(folder: Path, *more: Event, updated: datetime | None = None) -> Path:
    """Write the events of a run in its second round into a folder."""
    folder.mkdir(exist_ok=True)
    lines = [f"{write_event(event)}\n" for event in (*EVENTS_SO_FAR, *more)]
    (folder / EVENTS).write_text("".join(lines))
    if updated is not None:
        os.utime(folder / EVENTS, (0, updated.timestamp()))
    return folder


def printed(status: RunStatus, place: Path = Path("one")) -> str:
    """Return what an operator sees, with single blanks between words."""
    console = Console(width=200, file=io.StringIO())
    console.print(describe(status, place, now_utc()))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def exit_code(*arguments: str) -> int:
    """Run the command line and give its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(str(ended.value.code))


def test_a_run_is_found_by_its_name_under_way_and_done(tmp_path: Path) -> None:
    """What is under way comes first: it is what goes on."""
    under_way = put(tmp_path / "one.unfinished")
    assert find_events(tmp_path / "one") == under_way / EVENTS
    assert find_events(under_way) == under_way / EVENTS
    done = put(tmp_path / "two", FINISHED)
    assert find_events(done) == done / EVENTS
    with pytest.raises(InputError, match="there is no run here"):
        find_events(tmp_path / "three")
    (tmp_path / "three.unfinished").mkdir()
    with pytest.raises(InputError, match="try again in a minute"):
        find_events(tmp_path / "three")


def test_the_status_answers_an_operators_questions() -> None:
    """Round of rounds, exchange, replies, parties, last errors."""
    text = printed(status_of())
    for expected in (
        "state running",
        "merge collabedit",
        "round 2 of 3",
        "now exchange, 1 of 2",
        "parties 1 seen of 2",
        "hospital-a 2026-01-02 03:04:05 UTC",
        "party 1 –",
        "it did not reply within 5 s",
    ):
        assert expected in text
    assert "1000" not in text  # Flower's number of a node
    assert advise(status_of(), Path("one"), now_utc()) == []


def test_a_silent_run_is_shown_with_the_command_to_resume(tmp_path: Path) -> None:
    """Of `run` or `compare`, as it was begun; without its settings, by hand."""
    silent = status_of(updated=now_utc() - SILENCE)
    place = tmp_path / "one.unfinished"
    place.mkdir()
    assert "start it again with the same settings" in printed(silent, place)
    for compare, command in ((False, "run"), (True, "compare")):
        (place / KEPT).write_text(json.dumps({"run": {"compare": compare}}))
        text = printed(silent, place)
        assert "state silent" in text
        assert "given no sign of life for 11 min" in text
        assert text.endswith(f"python -m sims {command} --resume {place}")
    (place / CONNECTED).write_text(json.dumps({"connection": "hospital", "run": "7"}))
    assert printed(silent, place).endswith(f"--resume {place} --connection hospital")


def test_a_failed_run_is_shown_with_the_reason(tmp_path: Path) -> None:
    """A text in it that looks like markup is shown as it is."""
    text = printed(status_of(FAILED), tmp_path)
    assert "The run failed: Round 2 has 1 parties [left]" in text


@pytest.mark.parametrize(
    ("more", "updated", "code"),
    [((), None, 0), ((FINISHED,), NOW, 0), ((FAILED,), NOW, 1), ((), NOW, 1)],
)
def test_the_exit_code_is_for_alarms(
    tmp_path: Path,
    more: tuple[Event, ...],
    updated: datetime | None,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It tells whether somebody should look, as the JSON does."""
    place = put(tmp_path / "one.unfinished", *more, updated=updated)
    assert exit_code("status", str(tmp_path / "one")) == code
    capsys.readouterr()
    assert exit_code("status", str(place), "--json") == code
    shown = json.loads(capsys.readouterr().out)
    read = RunStatus.model_validate(
        {name: value for name, value in shown.items() if name != "silent"}
    )
    assert read == status_of(*more, updated=read.updated)
    assert shown["silent"] == (not more and updated is not None)


def test_a_folder_without_a_run_is_bad_input(tmp_path: Path) -> None:
    """With the exit code of such."""
    assert exit_code("status", str(tmp_path)) == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_is_watched_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """Also when its folder takes its own name then."""
    place = put(tmp_path / "one.unfinished")
    waited = []

    def finish(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) < 2:
            return
        put(place, FINISHED)
        place.rename(tmp_path / "one")

    monkeypatch.setattr("sims.runs.status.time.sleep", finish)
    console = Console(width=200, file=io.StringIO(), force_terminal=not as_json)
    well = show_status(tmp_path / "one", console, as_json=as_json, watch=True)
    assert well
    assert len(waited) == 2
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    if as_json:
        states = [json.loads(line)["state"] for line in text.splitlines()]
        assert states == ["running", "running", "finished"]
    else:
        assert "running" in text
        assert "finished" in text
