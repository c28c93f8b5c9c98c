"""The stream publishes every event to every observer, and a file records them."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import server.monitoring.stream
from server.monitoring.events import (
    EVENTS,
    Event,
    MergeStarted,
    NodeExchange,
    PhaseProgress,
    RoundEnded,
    RunEnded,
    WarningLogged,
    read_events,
    write_event,
)
from server.monitoring.stream import (
    LOGGERS,
    PROGRESS_SECONDS,
    EventFile,
    EventStream,
    WarningEvents,
)
from server.report.data import RoundMetrics
from tests.server.events import ended, exchanged, merging, recorded


class Timer:
    """Seconds that pass only when a test lets them."""

    def __init__(self) -> None:
        """Start anywhere."""
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def timer() -> Timer:
    """Make a timer."""
    return Timer()


@pytest.fixture
def heard() -> list[Event]:
    """Make a place for events."""
    return []


@pytest.fixture
def stream(timer: Timer, heard: list[Event]) -> EventStream:
    """Make a stream whose events are heard."""
    made = EventStream(timer)
    made.subscribe(heard.append)
    return made


def test_every_observer_gets_every_event_in_order(
    stream: EventStream, heard: list[Event]
) -> None:
    """From the moment that it subscribes."""
    second = list[Event]()
    stream.begin_merge("collabedit", 2)
    stream.subscribe(second.append)
    stream.of_merge("collabedit")("evaluate.requests", 3, 1, 1)
    stream.of_exchanges("collabedit")(recorded())
    stream.end_round("collabedit", 3, ended(3).metrics)
    stream.finish(Path("/results"))
    kinds = [MergeStarted, PhaseProgress, NodeExchange, RoundEnded, RunEnded]
    assert [type(event) for event in heard] == kinds
    assert second == heard[1:]
    progress = heard[1]
    assert isinstance(progress, PhaseProgress)
    assert (progress.phase, progress.round, progress.total) == ("evaluation", 3, 1)


def test_an_exchange_has_all_of_its_record(
    stream: EventStream, heard: list[Event]
) -> None:
    """Also that of a party without a number."""
    stream.report_exchange("collabedit", recorded(2))
    stream.report_exchange("collabedit", recorded(-1, "it failed"))
    first, second = heard
    expected = exchanged(2).model_copy(update={"time": first.time})
    assert first == expected
    assert isinstance(second, NodeExchange)
    assert (second.party, second.outcome, second.bytes_up) == (None, "it failed", 0)


def test_seconds_and_bytes_belong_to_one_round(
    stream: EventStream, heard: list[Event], timer: Timer
) -> None:
    """Each starts where the one before it ended, the first where its merge did."""
    timer.now += 50
    stream.begin_merge("collabedit", 0)
    for number, count in ((1, 1), (2, 3)):
        for _ in range(count):
            stream.report_exchange("collabedit", recorded(number=number))
        timer.now += count
        stream.end_round("collabedit", number, RoundMetrics())
    rounds = [event for event in heard if isinstance(event, RoundEnded)]
    found = [(each.seconds, each.bytes_down, each.bytes_up) for each in rounds]
    assert found == [(1, 100, 10), (3, 300, 30)]


def test_progress_is_published_now_and_then_and_at_both_ends(
    stream: EventStream, heard: list[Event], timer: Timer
) -> None:
    """Each phase for itself: a hundred replies a second are no hundred lines."""
    for done in range(101):
        for phase in ("targets", "exchange"):
            stream.report_progress(phase, done, 100, "ties", 1)
        timer.now += PROGRESS_SECONDS / 25
    counts = [each.done for each in heard if isinstance(each, PhaseProgress)]
    assert len(counts) <= 2 * 6
    assert counts[:2] == [0, 0]
    assert counts[-2:] == [100, 100]


def test_an_observer_that_cannot_write_is_dropped_and_the_run_continues(
    stream: EventStream, heard: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk stops no long run; the operator gets one warning."""

    def write_nowhere(_: Event) -> None:
        raise OSError(28, "No space left on device")

    stream.subscribe(write_nowhere)
    with caplog.at_level(logging.WARNING):
        stream.begin_merge("collabedit", 0)
        stream.begin_merge("ties", 0)
    assert len(heard) == 2
    assert [each.getMessage() for each in caplog.records] == [
        "the run continues without its function (No space left on device)"
    ]


def test_of_an_unforeseen_error_there_is_the_type_alone(
    stream: EventStream, heard: list[Event]
) -> None:
    """Its text may quote a request."""
    stream.fail("few parties", "run")
    stream.fail("KeyError: 'a prompt'", "program")
    ends = [event for event in heard if isinstance(event, RunEnded)]
    found = [(each.error, each.cause) for each in ends]
    expected = [("few parties", "run"), ("KeyError; see Flower's log", "program")]
    assert found == expected


@pytest.fixture
def warned(stream: EventStream) -> Iterator[EventStream]:
    """Publish warnings, until the test is over."""
    WarningEvents(stream)
    yield stream
    stream.fail("the test is over", "run")


@pytest.mark.parametrize("name", LOGGERS)
def test_warnings_of_our_code_are_events(
    warned: EventStream, heard: list[Event], name: str
) -> None:
    """Without the traceback; less than a warning is no event, nor is one afterwards."""
    logger = logging.getLogger(f"{name}.somewhere")
    logger.info("nothing")
    logger.warning("party %d is late", 7, exc_info=ValueError("a prompt"))
    (event,) = heard
    assert isinstance(event, WarningLogged)
    assert (event.source, event.message) == (f"{name}.somewhere", "party 7 is late")
    assert "a prompt" not in write_event(event)
    warned.finish(Path("/results"))
    logger.warning("after the end")
    assert isinstance(heard[-1], RunEnded)


def test_a_file_holds_every_event_and_may_be_moved(tmp_path: Path) -> None:
    """As programs do that keep logs short."""
    path = tmp_path / EVENTS
    file = EventFile(path)
    events: list[Event] = [merging(), ended(1), RunEnded(folder="/é")]
    file(events[0])
    assert read_events(path) == events[:1]
    path.rename(tmp_path / "old.jsonl")
    for event in events[1:]:
        file(event)
    assert read_events(path) == events[1:]


def test_a_file_is_continued_after_its_last_whole_line(tmp_path: Path) -> None:
    """A line cut off by a kill is removed; a whole one gets its line break."""
    path, whole = tmp_path / EVENTS, write_event(merging())
    for rest, kept in (('{"kind": "merge_st', []), (whole, [merging()])):
        path.write_text(f"{whole}\n{rest}")
        file = EventFile(path)
        file(RunEnded(time=merging().time, folder="/results"))
        expected = [merging(), *kept, RunEnded(time=merging().time, folder="/results")]
        assert read_events(path) == expected
        assert path.read_text().count("\n") == len(expected)


def test_the_age_of_the_file_tells_whether_the_server_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewed while nothing happens, until the run has ended."""
    monkeypatch.setattr(server.monitoring.stream, "BEAT_SECONDS", 0.01)
    path = tmp_path / EVENTS
    file = EventFile(path)
    os.utime(path, (0, 0))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 0
    file(RunEnded(error="x", cause="run"))
    os.utime(path, (0, 0))
    time.sleep(0.05)
    assert path.stat().st_mtime == 0
