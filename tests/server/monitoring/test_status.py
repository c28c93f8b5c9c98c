"""A status says how the run stands, now and after a stop."""

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

import server.monitoring.status
from editing.base.errors import InputError
from server.monitoring.progress import Event, MergeStart, RunEnd, Step
from server.monitoring.status import (
    SILENT_SECONDS,
    PartyStatus,
    RunStatus,
    StatusFile,
    advance,
    read_status,
)
from tests.server.events import NOW, Clock, ended, exchanged


def begun(**changes: object) -> RunStatus:
    """A run that has just begun."""
    status = RunStatus(run="run_000", rounds=3, expected=2, started=NOW, updated=NOW)
    return status.model_copy(update=changes)


def after(*events: Event) -> RunStatus:
    """What a run is after events, a second apart."""
    status, now = begun(), NOW
    for event in events:
        now += timedelta(seconds=1)
        status = advance(status, event, now)
    return status


def seconds(count: int) -> object:
    """So many seconds after the beginning."""
    return NOW + timedelta(seconds=count)


def test_a_status_follows_merge_round_and_phase() -> None:
    """A step without a merge or round leaves them as they were."""
    status = after(
        Step("covariance", 128),
        MergeStart("ties", 1),
        Step("exchange", 1, 2, "ties", 2),
    )
    found = (status.merge, status.round, status.phase, status.done, status.total)
    assert found == ("ties", 2, "exchange", 1, 2)
    assert status.updated == seconds(3)
    between = after(Step("exchange", 1, 2, "ties", 2), Step("covariance", 7))
    assert (between.merge, between.round, between.total) == ("ties", 2, None)


def test_a_party_was_seen_when_it_last_replied() -> None:
    """Who did not is there, and keeps the time at which it last did."""
    late = "it did not reply within 5 s"
    status = after(exchanged(1), exchanged(0), exchanged(1, late, number=2))
    assert status.parties == (
        PartyStatus(party=0, node=1000, seen=seconds(2)),
        PartyStatus(
            party=1,
            node=1001,
            seen=seconds(1),
            error=late,
            error_round=2,
            error_time=seconds(3),
        ),
    )


def test_a_node_gets_its_number_once_it_has_introduced_itself() -> None:
    """And those without one stand behind those that have one."""
    status = after(exchanged(-1, node=7), exchanged(0), exchanged(2, node=7))
    assert [(each.party, each.node) for each in status.parties] == [(0, 1000), (2, 7)]
    status = after(exchanged(-1, node=7), exchanged(0))
    assert [(each.party, each.node) for each in status.parties] == [(0, 1000), (-1, 7)]


def test_a_party_that_comes_back_as_another_node_keeps_its_place() -> None:
    """Its last error, too."""
    status = after(exchanged(0, "it failed"), exchanged(0, node=5))
    (party,) = status.parties
    assert (party.node, party.error, party.seen) == (5, "it failed", seconds(2))


def test_who_a_round_refused_is_named_with_the_reason_once() -> None:
    """A reason that the exchange told already keeps its time."""
    status = after(
        exchanged(0, "it failed"),
        exchanged(1),
        ended(1, (1000, "it failed"), (1001, "NaN")),
    )
    reasons = [(each.error, each.error_time) for each in status.parties]
    assert reasons == [("it failed", seconds(1)), ("NaN", seconds(3))]
    assert status.round == 1


def test_the_end_says_how_the_run_ended() -> None:
    """And nothing goes on any more."""
    done = after(Step("exchange", 1, 2, "ties", 2), RunEnd(Path("/results")))
    assert (done.state, done.reason, done.phase) == ("finished", None, None)
    failed = after(RunEnd(error="too few parties", kind="run"))
    assert (failed.state, failed.reason) == ("failed", "too few parties")


def test_a_running_run_that_says_nothing_for_long_is_silent() -> None:
    """One that has ended is not."""
    late = NOW + timedelta(seconds=SILENT_SECONDS + 1)
    assert begun().is_silent(late)
    assert not begun().is_silent(NOW + timedelta(seconds=SILENT_SECONDS))
    assert not begun(state="finished").is_silent(late)
    assert not begun(state="failed").is_silent(late)


def test_the_file_is_what_the_events_make_of_it(tmp_path: Path) -> None:
    """It is whole from the start to the end, and no draft stays beside it."""
    path, clock = tmp_path / "status.json", Clock()
    file = StatusFile(path, begun(), clock)
    assert read_status(path) == begun()
    for event in (MergeStart("ties", 0), exchanged(0), RunEnd(Path("/results"))):
        clock.pass_by(1)
        file(event)
    assert read_status(path) == after(
        MergeStart("ties", 0), exchanged(0), RunEnd(Path("/results"))
    )
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_written_again_while_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its age tells whether the server is alive."""
    monkeypatch.setattr(server.monitoring.status, "CHANGE_SECONDS", 0.01)
    monkeypatch.setattr(server.monitoring.status, "BEAT_SECONDS", 0.02)
    path, clock = tmp_path / "status.json", Clock()
    file = StatusFile(path, begun(), clock)
    clock.pass_by(30)
    deadline = time.monotonic() + 10
    while read_status(path).updated == NOW and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_status(path).updated == seconds(30)
    file(RunEnd(error="x", kind="run"))
    clock.pass_by(30)
    time.sleep(0.1)
    assert read_status(path).updated == seconds(30)


def test_a_run_that_goes_on_keeps_when_it_began_and_who_was_seen(
    tmp_path: Path,
) -> None:
    """It is known by its name; of a finished or another run nothing is kept."""
    path = tmp_path / "status.json"
    earlier = after(MergeStart("ties", 0), exchanged(0), RunEnd(error="x", kind="run"))
    path.write_text(earlier.model_dump_json())
    later = begun(started=NOW + timedelta(days=1), rounds=5)
    file = StatusFile(path, later, Clock())
    file(RunEnd(Path("/results")))
    found = read_status(path)
    assert (found.started, found.resumed) == (NOW, later.started)
    assert (found.parties, found.merge) == (earlier.parties, "ties")
    assert (found.rounds, found.state, found.reason) == (5, "finished", None)
    for name in ("run_000", "run_001"):  # finished, and another
        file = StatusFile(path, begun(run=name), Clock())
        file(RunEnd(error="x", kind="run"))
        assert read_status(path).parties == ()


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"run": 1})])
def test_what_is_no_status_is_refused(tmp_path: Path, text: str) -> None:
    """By its name; a run that begins there writes over it."""
    path = tmp_path / "status.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"status.json: is no status"):
        read_status(path)
    StatusFile(path, begun(), Clock())(RunEnd(Path("/results")))
    assert read_status(path).state == "finished"


def test_a_status_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what was wanted."""
    with pytest.raises(InputError, match="wanted the folder of a run"):
        read_status(tmp_path / "status.json")
