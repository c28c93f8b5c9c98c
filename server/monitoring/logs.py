"""A log for machines: one JSON object for each event, beside Flower's own log.

Each line has ``time``, ``level``, ``event``, ``run``, and what there is to say of the
event. No line has a text of a request, nor one that our code did not write: of an error
that nobody foresaw it has the type alone.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from server.monitoring.metrics_log import LineFile
from server.monitoring.progress import (
    Event,
    MergeStart,
    NodeExchange,
    RoundEnd,
    RunEnd,
    Step,
)
from server.monitoring.status import OK, now_utc, phase_name

LOGGERS = ("server", "strategies")
"""Whose warnings are entered, too."""


class EventLog:
    """Writes one line an event.

    The file is opened for each line, so it may be moved away at any time.
    """

    def __init__(
        self, path: Path, run: str, clock: Callable[[], datetime] = now_utc
    ) -> None:
        """Say that the run begins, and listen to the warnings of our code."""
        self._file, self._run, self._clock = LineFile(path), run, clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write("INFO", "run began")
        self._handler = WarningLines(self)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._handler)

    def __call__(self, event: Event) -> None:
        """Enter an event; an observer of `server.monitoring.progress`."""
        match event:
            case Step() if event.done == event.total:
                told = {"merge": event.merge, "round": event.round}
                self.write(
                    "INFO", "phase ended", **told, phase=event.phase, done=event.done
                )
            case NodeExchange():
                self._enter_exchange(event)
            case MergeStart():
                self.write(
                    "INFO", "merge began", merge=event.merge, finished=event.finished
                )
            case RoundEnd():
                self._enter_round(event)
            case RunEnd():
                self._end(event)
            case _:
                return

    def write(self, level: str, name: str, **told: object) -> None:
        """Append a line; what is None is left out."""
        known = {key: value for key, value in told.items() if value is not None}
        stamp = self._clock().isoformat()
        self._file.append(
            {"time": stamp, "level": level, "event": name, "run": self._run, **known}
        )

    def _enter_exchange(self, event: NodeExchange) -> None:
        record = event.record
        well = record.outcome == OK
        self.write(
            "INFO" if well else "WARNING",
            "reply came" if well else "party left out",
            merge=event.merge,
            round=record.round,
            phase=phase_name(record.phase),
            node=record.node,
            party=record.party if record.party >= 0 else None,
            seconds=round(record.seconds, 3),
            bytes_down=record.bytes_down,
            bytes_up=record.bytes_up,
            reason=None if well else record.outcome,
        )

    def _enter_round(self, event: RoundEnd) -> None:
        metrics = event.metrics
        self.write(
            "WARNING" if metrics.refusals else "INFO",
            "round ended",
            merge=event.merge,
            round=event.round,
            requests=metrics.requests,
            score=metrics.score,
            refusals=len(metrics.refusals),
        )

    def _end(self, event: RunEnd) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
        if event.error is None:
            self.write("INFO", "run finished")
        else:
            self.write("ERROR", "run failed", kind=event.kind, reason=event.reason)


class WarningLines(logging.Handler):
    """Enters what our code warns of; tracebacks stay in Flower's log."""

    def __init__(self, log: EventLog) -> None:
        """Write to `log`."""
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line; a full disk is no reason to stop whoever warned."""
        try:
            self._log.write(
                record.levelname,
                "warning",
                source=record.name,
                message=record.getMessage(),
            )
        except OSError:
            self.handleError(record)
