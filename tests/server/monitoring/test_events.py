"""Events are written as lines and read back whole, whatever happens to the file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.monitoring.events import (
    PHASE_NAMES,
    Event,
    EventReader,
    PhaseProgress,
    RunEnded,
    WarningLogged,
    drop_repeated_rounds,
    label_party,
    parse_event,
    read_events,
    write_event,
)
from strategies.wire.messages import Phase
from tests.server.events import NOW, ended, exchanged, merging, started

EVENTS: list[Event] = [
    started(),
    merging("ties", 2),
    PhaseProgress(time=NOW, phase="targets", done=3, total=5, merge="ties", round=2),
    PhaseProgress(time=NOW, phase="covariance", done=128),
    exchanged(None, "it is late", node=2**62, name="hôpital"),
    ended(3, (7, "late")),
    WarningLogged(time=NOW, source="server.app", message="two\nlines [é]"),
    RunEnded(time=NOW, error="no such file", cause="input"),
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_one_line_that_is_read_back(event: Event) -> None:
    """With its kind and its time."""
    line = write_event(event)
    assert "\n" not in line
    assert parse_event(line) == event
    assert json.loads(line)["kind"] == event.kind
    assert json.loads(line)["time"]


def test_a_round_has_the_metrics_of_the_report() -> None:
    """By the same names, without what no round has."""
    line = json.loads(write_event(ended(1, (7, "late"))))
    assert line["metrics"]["score"] == 50.0
    assert line["metrics"]["groups"] == {"rewrite_acc.known": 25.0}
    assert line["metrics"]["refusals"][0]["reason"] == "late"


@given(
    chosen=st.lists(st.sampled_from(EVENTS), max_size=6),
    cuts=st.lists(st.integers(0, 2000), max_size=5),
)
def test_each_event_is_read_once_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[Event], cuts: list[int]
) -> None:
    """A half-written line waits until it is whole."""
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    reader, read = EventReader(path), list[Event]()
    lines = "".join(f"{write_event(event)}\n" for event in chosen).encode()
    for cut in [*sorted(cuts), len(lines)]:
        path.write_bytes(lines[:cut])
        read += reader.read_new()
    assert read == chosen == read_events(path)


def test_a_reader_may_skip_what_is_there(tmp_path: Path) -> None:
    """A line that was cut off is not there, and its rest is no event."""
    path = tmp_path / "events.jsonl"
    path.write_text(f'{write_event(EVENTS[0])}\n{{"kind": "ru')
    reader = EventReader(path, skip_present=True)
    assert reader.read_new() == []
    with path.open("a") as file:
        file.write(f"\n{write_event(EVENTS[1])}\n")
    assert reader.read_new() == [EVENTS[1]]
    assert EventReader(tmp_path / "later.jsonl", skip_present=True).read_new() == []


@pytest.mark.parametrize(
    "line", ["", "{", "3", '{"done": 3}', '{"kind": "progress", "done": "many"}']
)
def test_a_line_that_is_not_an_event_is_skipped(tmp_path: Path, line: str) -> None:
    """Such as one of a later version, or the half line of a killed run."""
    assert parse_event(line) is None
    path = tmp_path / "events.jsonl"
    path.write_text(f"{line}\n{write_event(EVENTS[0])}\n{line}")
    assert read_events(path) == [EVENTS[0]]


@pytest.mark.parametrize("completed", [0, 1, 2])
def test_each_round_counts_once_in_a_resumed_run(completed: int) -> None:
    """Whether it was stopped before or after its last round was saved."""
    first: list[Event] = [merging(), *map(ended, range(3))]
    rest = range(completed + 1 if completed else 0, 4)
    again: list[Event] = [merging(completed=completed)]
    again += [ended(number, score=1.0) for number in rest]
    found = [
        (each.round, each.metrics.score)
        for each in drop_repeated_rounds([*first, *again])
        if each.kind == "round_ended"
    ]
    old = range(completed + 1 if completed else 0)
    assert found == [*((n, 50.0) for n in old), *((n, 1.0) for n in rest)]


def test_the_rounds_of_other_merges_stay() -> None:
    """Each merge of a comparison resumes after its own rounds."""
    other: list[Event] = [exchanged(0, number=3, merge="ties"), ended(3, merge="ties")]
    events: list[Event] = [
        *other,
        exchanged(0, number=1),
        merging(),
        merging("ties", 3),
    ]
    assert [each for each in drop_repeated_rounds(events) if each in other] == other
    assert exchanged(0, number=1) not in drop_repeated_rounds(events)


def test_a_party_is_named_by_its_registration_or_its_number() -> None:
    """Never by Flower's number of its node."""
    assert label_party("hospital-a", 3) == "hospital-a"
    assert label_party("", 3) == "party 3"
    assert exchanged(None, node=2**62).label == "a party without a number"


def test_phases_have_names_for_people() -> None:
    """All but the last one, which is not counted."""
    assert PHASE_NAMES.keys() == {phase.value for phase in Phase} - {"query.forget"}
    assert not any("." in name for name in PHASE_NAMES.values())
