"""A status follows from the events, now and after a stop."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from server.monitoring.events import (
    EVENTS,
    Event,
    PhaseProgress,
    RunEnded,
    write_event,
)
from server.monitoring.status import (
    SILENT_SECONDS,
    PartyStatus,
    RunStatus,
    compute_status,
    read_status,
)
from tests.server.events import NOW, ended, exchanged, later, merging, started


def after(*events: Event) -> RunStatus:
    """Return the status of a run after its start and more events."""
    status = compute_status([started(), *events])
    assert status is not None
    return status


def put(folder: Path, *events: Event, rest: str = "") -> Path:
    """Write events to a file."""
    path = folder / EVENTS
    lines = [f"{write_event(event)}\n" for event in events]
    path.write_text("".join(lines) + rest)
    return path


def step(phase: str, done: int, total: int | None = None) -> PhaseProgress:
    """Return progress of no merge."""
    return PhaseProgress(time=later(3), phase=phase, done=done, total=total)


EXCHANGE = PhaseProgress(
    time=later(3), phase="exchange", done=1, total=2, merge="ties", round=2
)


def test_a_status_follows_merge_round_and_phase() -> None:
    """Progress without a merge or round leaves them as they were."""
    status = after(step("covariance", 128), merging("ties", 1), EXCHANGE)
    found = (status.merge, status.round, status.phase, status.done, status.total)
    assert found == ("ties", 2, "exchange", 1, 2)
    assert status.updated == later(3)
    assert (status.run, status.rounds, status.expected) == ("run_000", 3, 2)
    between = after(EXCHANGE, step("covariance", 7))
    assert (between.merge, between.round, between.total) == ("ties", 2, None)


def test_a_party_was_seen_when_it_last_replied() -> None:
    """One that did not reply is listed, and keeps the time at which it last did."""
    late = "it did not reply within 5 s"
    status = after(
        exchanged(1, seconds=1),
        exchanged(0, seconds=2),
        exchanged(1, late, number=2, seconds=3),
    )
    assert status.parties == (
        PartyStatus(party=0, node=1000, seen=later(2)),
        PartyStatus(
            party=1,
            node=1001,
            seen=later(1),
            error=late,
            error_round=2,
            error_time=later(3),
        ),
    )


def test_a_node_gets_number_and_name_with_its_handshake() -> None:
    """Those without a number are listed after those that have one."""
    status = after(
        exchanged(None, node=7), exchanged(0), exchanged(2, node=7, name="hospital-a")
    )
    assert [(each.party, each.node) for each in status.parties] == [(0, 1000), (2, 7)]
    assert [each.label for each in status.parties] == ["party 0", "hospital-a"]
    status = after(exchanged(None, node=7), exchanged(0))
    assert [each.party for each in status.parties] == [0, None]
    assert status.parties[1].label == "a party without a number"


def test_a_party_that_comes_back_as_another_node_keeps_its_entry() -> None:
    """Its last error and its name, too."""
    status = after(exchanged(0, "it failed", name="a"), exchanged(0, node=5, seconds=2))
    (party,) = status.parties
    assert (party.node, party.error, party.seen) == (5, "it failed", later(2))
    assert party.name == "a"


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 0, 1, 2]), st.integers(1, 4)), max_size=12
    )
)
def test_each_exchange_replaces_the_entries_of_its_node_and_of_its_number(
    met: list[tuple[int | None, int]],
) -> None:
    """Of several, the last in the order of the list is kept, with its number."""

    def place(entry: tuple[int | None, int]) -> tuple[bool, int, int]:
        party, node = entry
        return (party is None, party or 0, node)

    listed: list[tuple[int | None, int]] = []
    for party, node in met:
        own = [
            each
            for each in listed
            if each[1] == node or (party is not None and each[0] == party)
        ]
        number = own[-1][0] if party is None and own else party
        rest = [each for each in listed if each not in own]
        listed = sorted([*rest, (number, node)], key=place)
    found = after(*(exchanged(party, node=node) for party, node in met)).parties
    assert [(each.party, each.node) for each in found] == listed


def test_a_refusal_is_listed_once_with_its_reason() -> None:
    """A reason that is known from the exchange keeps its time."""
    status = after(
        exchanged(0, "it failed", seconds=1),
        exchanged(1, seconds=2),
        ended(1, (1000, "it failed"), (1001, "NaN"), seconds=3),
    )
    reasons = [(each.error, each.error_time) for each in status.parties]
    assert reasons == [("it failed", later(1)), ("NaN", later(3))]
    assert status.round == 1


def test_the_end_says_how_the_run_ended() -> None:
    """And no phase is in progress any more."""
    done = after(EXCHANGE, RunEnded(folder="/results"))
    assert (done.state, done.reason, done.phase) == ("finished", None, None)
    failed = after(RunEnded(error="too few parties", cause="run"))
    assert (failed.state, failed.reason) == ("failed", "too few parties")


def test_a_running_run_without_a_sign_of_life_is_silent() -> None:
    """One that has ended is not."""
    late = later(SILENT_SECONDS + 1)
    assert after().is_silent(late)
    assert not after().is_silent(later(SILENT_SECONDS))
    assert not after(RunEnded(time=NOW, folder="/results")).is_silent(late)
    assert not after(RunEnded(time=NOW, error="x", cause="run")).is_silent(late)


def test_a_status_is_read_from_the_file_of_events(tmp_path: Path) -> None:
    """The file's age is the last sign of life; the line of a killed run is skipped."""
    path = put(tmp_path, started(), exchanged(0), rest='{"kind": "exch')
    os.utime(path, (0, later(60).timestamp()))
    assert read_status(path) == after(exchanged(0)).model_copy(
        update={"updated": later(60)}
    )
    end = RunEnded(time=later(7), folder="/results")
    assert read_status(put(tmp_path, started(), end)).updated == later(7)


def test_a_resumed_run_keeps_when_it_started_and_who_was_seen() -> None:
    """It is known by its name; of a finished or another run nothing is kept."""
    failed = RunEnded(time=later(1), error="x", cause="run")
    earlier: list[Event] = [started(), merging("ties"), exchanged(0), failed]
    found = compute_status([*earlier, started(rounds=5, seconds=99)])
    assert found is not None
    assert (found.started, found.resumed) == (NOW, later(99))
    assert (found.parties, found.merge) == (after(exchanged(0)).parties, "ties")
    assert (found.rounds, found.state, found.reason) == (5, "running", None)
    finished: list[Event] = [started(), exchanged(0), RunEnded(folder="/results")]
    for events in ([*finished, started()], [*earlier, started("run_001")]):
        found = compute_status(events)
        assert found is not None
        assert (found.parties, found.resumed) == ((), None)


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"run": 1}\n'])
def test_a_file_without_a_run_is_refused(tmp_path: Path, text: str) -> None:
    """By its name."""
    path = tmp_path / EVENTS
    path.write_text(text)
    with pytest.raises(InputError, match=r"events.jsonl: holds no events of a run"):
        read_status(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what was wanted."""
    with pytest.raises(InputError, match="wanted the folder of a run"):
        read_status(tmp_path / EVENTS)
