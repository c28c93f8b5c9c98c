"""An operator reads how a run stands, and what to do."""

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from editing.base.errors import InputError
from server.monitoring.progress import MergeStart, RunEnd, Step
from server.monitoring.status import SILENT_SECONDS, STATUS, RunStatus, advance, now_utc
from sims.cli.main import main
from sims.runs.status import advise, describe, find_status, show_status
from sims.runs.unfinished import CONNECTED, KEPT
from tests.server.events import NOW, exchanged

SILENCE = timedelta(seconds=SILENT_SECONDS + 600)


def status_of(**changes: object) -> RunStatus:
    """A run in its second round, heard of just now."""
    status = RunStatus(run="one", rounds=3, expected=3, started=NOW, updated=NOW)
    for event in (
        MergeStart("collabedit", 1),
        exchanged(0),
        exchanged(1, "it did not reply within 5 s", number=2),
        Step("exchange", 1, 2, "collabedit", 2),
    ):
        status = advance(status, event, NOW)
    return status.model_copy(update={"updated": now_utc(), **changes})


def put(folder: Path, status: RunStatus) -> Path:
    """Write a status into a folder."""
    folder.mkdir()
    (folder / STATUS).write_text(status.model_dump_json())
    return folder


def printed(status: RunStatus, place: Path = Path("one")) -> str:
    """What an operator sees, with the blanks between words made one."""
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
    under_way = put(tmp_path / "one.unfinished", status_of())
    assert find_status(tmp_path / "one") == under_way / STATUS
    assert find_status(under_way) == under_way / STATUS
    done = put(tmp_path / "two", status_of(state="finished"))
    assert find_status(done) == done / STATUS
    with pytest.raises(InputError, match="no run lies here"):
        find_status(tmp_path / "three")
    (tmp_path / "three.unfinished").mkdir()
    with pytest.raises(InputError, match="look again in a minute"):
        find_status(tmp_path / "three")


def test_all_that_an_operator_asks_is_told() -> None:
    """Round of rounds, exchange, replies, parties, last errors."""
    text = printed(status_of())
    for told in (
        "state running",
        "merge collabedit",
        "round 2 of 3",
        "now exchange, 1 of 2",
        "parties 1 seen of 3",
        "0 1000 2026-01-02 03:04:05 UTC",
        "it did not reply within 5 s",
    ):
        assert told in text
    assert advise(status_of(), Path("one"), now_utc()) == []


def test_what_seems_dead_is_told_with_the_command_to_go_on(tmp_path: Path) -> None:
    """Of `run` or `compare`, as it was begun; without its settings, by hand."""
    silent = status_of(updated=now_utc() - SILENCE)
    place = tmp_path / "one.unfinished"
    place.mkdir()
    assert "start it again with the same settings" in printed(silent, place)
    for compare, command in ((False, "run"), (True, "compare")):
        (place / KEPT).write_text(json.dumps({"run": {"compare": compare}}))
        text = printed(silent, place)
        assert "state silent" in text
        assert "says nothing for 11 min" in text
        assert text.endswith(f"python -m sims {command} --resume {place}")
    (place / CONNECTED).write_text(json.dumps({"connection": "hospital", "run": "7"}))
    assert printed(silent, place).endswith(f"--resume {place} --connection hospital")


def test_what_failed_is_told_with_the_reason(tmp_path: Path) -> None:
    """A text in it that looks like markup is shown as it is."""
    failed = status_of(state="failed", reason="Round 2 has 1 parties [left]")
    text = printed(failed, tmp_path)
    assert "The run failed: Round 2 has 1 parties [left]" in text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"state": "finished", "updated": NOW}, 0),
        ({"state": "failed"}, 1),
        ({"updated": NOW}, 1),
    ],
)
def test_the_exit_code_is_for_alarms(
    tmp_path: Path,
    changes: dict[str, object],
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It tells whether somebody should look, as the JSON does."""
    place = put(tmp_path / "one.unfinished", status_of(**changes))
    assert exit_code("status", str(tmp_path / "one")) == code
    capsys.readouterr()
    assert exit_code("status", str(place), "--json") == code
    told = json.loads(capsys.readouterr().out)
    read = RunStatus.model_validate(
        {name: value for name, value in told.items() if name != "silent"}
    )
    assert read == status_of(**changes).model_copy(update={"updated": read.updated})
    assert told["silent"] == (changes == {"updated": NOW})


def test_a_folder_without_a_run_is_bad_input(tmp_path: Path) -> None:
    """With the exit code of such."""
    assert exit_code("status", str(tmp_path)) == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_is_watched_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """Also when its folder takes its own name then."""
    place = put(tmp_path / "one.unfinished", status_of())
    waited = []

    def finish(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) < 2:
            return
        done = advance(status_of(), RunEnd(tmp_path), now_utc())
        (place / STATUS).write_text(done.model_dump_json())
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
