"""The stream of a run's events: who publishes them, and the file they go to."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Literal

from flwr.common.logger import log

from server.monitoring.events import (
    Event,
    MergeStarted,
    NodeExchange,
    Observer,
    PhaseProgress,
    RoundEnded,
    RunEnded,
    WarningLogged,
    parse_event,
    phase_name,
    write_event,
)
from server.report.data import RoundMetrics
from strategies.rounds.exchange import ExchangeRecord

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
"""Progress of one phase is published at most this often, first and last apart."""

BEAT_SECONDS = 10.0
"""How often the file's modification time is renewed while nothing happens."""

LOGGERS = ("server", "strategies")
"""The loggers whose warnings are events."""

Cause = Literal["input", "run", "program"]


class EventStream:
    """Publishes the events of a run to observers.

    An observer that cannot write is dropped, and the run continues: the results of a
    long run are worth more than its description.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        """Start without observers.

        Args:
            timer: Returns seconds since any fixed moment.
        """
        self._observers: list[Observer] = []
        self._timer = timer
        self._costs = RoundCosts(timer())
        self._published: dict[tuple[str | None, int | None, str], float] = {}

    def subscribe(self, observer: Observer) -> None:
        """Send all events from now on to one more observer."""
        self._observers.append(observer)

    def publish(self, event: Event) -> None:
        """Send an event to all observers."""
        for observer in list(self._observers):
            try:
                observer(event)
            except OSError as error:
                self._observers.remove(observer)
                logger.warning(
                    "the run continues without its %s (%s)",
                    type(observer).__name__,
                    error.strerror,
                )

    def report_progress(
        self,
        phase: str,
        done: int,
        total: int | None = None,
        merge: str | None = None,
        number: int | None = None,
    ) -> None:
        """Publish how much of a phase is done, unless that was done just now."""
        event = PhaseProgress(
            phase=phase, done=done, total=total, merge=merge, round=number
        )
        if self._is_due(event):
            self.publish(event)
        if event.is_last:
            log(logging.INFO, "%s, round %s: %s, %d done", merge, number, phase, done)

    def report_exchange(self, merge: str, record: ExchangeRecord) -> None:
        """Publish the cost and outcome of one exchange with one node."""
        self._costs.add(record)
        self.publish(
            NodeExchange(
                merge=merge,
                phase=record.phase,
                round=record.round,
                node=record.node,
                party=record.party if record.party >= 0 else None,
                name=record.name,
                seconds=round(record.seconds, 3),
                bytes_down=record.bytes_down,
                bytes_up=record.bytes_up,
                outcome=record.outcome,
            )
        )

    def of_merge(self, merge: str) -> Callable[[str, int, int, int], None]:
        """Return a function that publishes progress of a merge's exchanges.

        It is called with the message type, the round, the replies that arrived and the
        replies expected.
        """

        def report(message_type: str, number: int, done: int, total: int) -> None:
            self.report_progress(phase_name(message_type), done, total, merge, number)

        return report

    def of_exchanges(self, merge: str) -> Callable[[ExchangeRecord], None]:
        """Return a function that publishes exchanges of a merge."""
        return lambda record: self.report_exchange(merge, record)

    def begin_merge(self, merge: str, completed: int) -> None:
        """Publish that a merge starts after a number of completed rounds."""
        self._costs = RoundCosts(self._timer())
        self.publish(MergeStarted(merge=merge, completed=completed))

    def end_round(self, merge: str, number: int, metrics: RoundMetrics) -> None:
        """Publish a round's metrics and costs, before its checkpoint is written."""
        costs, now = self._costs, self._timer()
        self._costs = RoundCosts(now)
        self.publish(
            RoundEnded(
                merge=merge,
                round=number,
                seconds=round(now - costs.started, 3),
                bytes_down=costs.bytes_down,
                bytes_up=costs.bytes_up,
                metrics=metrics,
            )
        )

    def finish(self, folder: Path) -> None:
        """Publish that the run succeeded, and where its results are."""
        self.publish(RunEnded(folder=str(folder)))

    def fail(self, error: str, cause: Cause) -> None:
        """Publish why the run failed; of an unforeseen error, its type alone."""
        if cause == "program":
            error = f"{error.partition(':')[0]}; see Flower's log"
        self.publish(RunEnded(error=error, cause=cause))

    def _is_due(self, event: PhaseProgress) -> bool:
        key, now = (event.merge, event.round, event.phase), self._timer()
        last = self._published.get(key)
        if event.is_last:
            self._published.pop(key, None)
            return True
        if last is not None and now - last < PROGRESS_SECONDS:
            return False
        self._published[key] = now
        return True


@dataclass(slots=True)
class RoundCosts:
    """What the present round has cost so far.

    Attributes:
        started: When it started, in seconds.
        bytes_down: Size of all messages to the parties.
        bytes_up: Size of all replies.
    """

    started: float
    bytes_down: int = 0
    bytes_up: int = 0

    def add(self, record: ExchangeRecord) -> None:
        """Add one exchange with one node."""
        self.bytes_down += record.bytes_down
        self.bytes_up += record.bytes_up


class EventFile:
    """Appends every event to a file; an observer.

    During the run, the file's modification time is at most `BEAT_SECONDS` old,
    so a reader sees whether the server is alive.
    """

    def __init__(self, path: Path) -> None:
        """Continue a file after its last whole line; the file need not exist."""
        self._path = path
        repair_end(path)
        path.touch()
        self._ended = Signal()
        self._thread = Thread(target=self._beat, daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Append an event as one line.

        The file is opened for each line, so it may be moved at any time.
        """
        append_line(self._path, write_event(event))
        if isinstance(event, RunEnded):
            self._ended.set()
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # it was moved, or its disk is gone for now
                os.utime(self._path)


class WarningEvents(logging.Handler):
    """Publishes the warnings of our own loggers until the run ends."""

    def __init__(self, stream: EventStream) -> None:
        """Attach to `LOGGERS`, and detach when the run ends."""
        super().__init__(logging.WARNING)
        self._stream = stream
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)
        stream.subscribe(self._detach_at_end)

    def emit(self, record: logging.LogRecord) -> None:
        """Publish the message; the traceback stays in Flower's log."""
        self._stream.publish(
            WarningLogged(source=record.name, message=record.getMessage())
        )

    def _detach_at_end(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            for name in LOGGERS:
                logging.getLogger(name).removeHandler(self)


def append_line(path: Path, line: str) -> None:
    """Append a line in one write.

    Raises:
        OSError: If there is no room for all of it.
    """
    data = f"{line}\n".encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        written = os.write(handle, data)
    finally:
        os.close(handle)
    if written < len(data):
        raise OSError(0, "no room for a whole line")


def repair_end(path: Path) -> None:
    """Remove a last line that was cut off when a process was killed.

    A whole event that lacks its line break gets it instead.
    """
    if not path.is_file():
        return
    data = path.read_bytes()
    rest = data[data.rfind(b"\n") + 1 :]
    if not rest:
        return
    if parse_event(rest) is not None:
        append_line(path, "")
    else:
        os.truncate(path, len(data) - len(rest))
