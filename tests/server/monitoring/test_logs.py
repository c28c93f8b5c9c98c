"""A program can read what happened, line by line."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.monitoring.logs import LOGGERS, EventLog
from server.monitoring.progress import MergeStart, RunEnd, Step
from tests.server.events import NOW, Clock, ended, exchanged


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    """Lend a log, and have it let go of the loggers."""
    lent = EventLog(tmp_path / "new" / "log.jsonl", "run_000", Clock())
    yield lent
    lent(RunEnd(Path("/results")))


def lines_of(folder: Path) -> list[dict[str, object]]:
    """Read what is there, without what all lines have."""
    text = (folder / "new" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert line.pop("time") == NOW.isoformat()
        assert line.pop("run") == "run_000"
    return lines


def test_each_event_is_a_line(tmp_path: Path, log: EventLog) -> None:
    """With a level by which alarms may be chosen; steps are told when they are done."""
    log(MergeStart("collabedit", 2))
    log(Step("targets", 1, 2, "collabedit", 3))
    log(Step("targets", 2, 2, "collabedit", 3))
    log(exchanged(0, number=3))
    log(exchanged(-1, "it failed", number=3, node=9))
    log(ended(3, (9, "it failed")))
    lines = lines_of(tmp_path)
    assert [(line["level"], line["event"]) for line in lines] == [
        ("INFO", "run began"),
        ("INFO", "merge began"),
        ("INFO", "phase ended"),
        ("INFO", "reply came"),
        ("WARNING", "party left out"),
        ("WARNING", "round ended"),
    ]
    assert lines[3] == {
        "level": "INFO",
        "event": "reply came",
        "merge": "collabedit",
        "round": 3,
        "phase": "exchange",
        "node": 1000,
        "party": 0,
        "seconds": 1.235,
        "bytes_down": 100,
        "bytes_up": 10,
    }
    assert lines[4]["reason"] == "it failed"
    assert "party" not in lines[4]
    assert lines[5]["refusals"] == 1


@pytest.mark.parametrize("name", LOGGERS)
def test_warnings_of_our_code_are_lines(
    tmp_path: Path, log: EventLog, name: str
) -> None:
    """Without the traceback, and what is less than a warning not at all."""
    logger = logging.getLogger(f"{name}.somewhere")
    logger.info("nothing")
    logger.warning("node %d is late", 7, exc_info=ValueError("a prompt"))
    line = lines_of(tmp_path)[-1]
    assert line == {
        "level": "WARNING",
        "event": "warning",
        "source": f"{name}.somewhere",
        "message": "node 7 is late",
    }
    log(RunEnd(Path("/results")))
    before = lines_of(tmp_path)
    logger.warning("after the end")
    assert lines_of(tmp_path) == before


def test_the_end_is_told_with_its_reason(tmp_path: Path, log: EventLog) -> None:
    """Of an error that nobody foresaw its type alone."""
    log(RunEnd(error="KeyError: 'a prompt'", kind="program"))
    assert lines_of(tmp_path)[-1] == {
        "level": "ERROR",
        "event": "run failed",
        "kind": "program",
        "reason": "KeyError; see Flower's log",
    }


def test_a_log_may_be_moved_away_and_a_later_run_appends(
    tmp_path: Path, log: EventLog
) -> None:
    """As programs do that keep logs short."""
    path = tmp_path / "new" / "log.jsonl"
    path.rename(tmp_path / "old.jsonl")
    log(MergeStart("ties", 0))
    again = EventLog(path, "run_000", Clock())
    again(RunEnd(Path("/results")))
    events = [line["event"] for line in lines_of(tmp_path)]
    assert events == ["merge began", "run began", "run finished"]
