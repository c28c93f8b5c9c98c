"""Metrics of each round and the cost of each exchange, one JSON object a line.

Lines are appended as things happen. A run that goes on after a stop makes again the
rounds that were not whole: their lines are removed first, so that each round is there
once.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from editing.files.atomic import write_whole
from server.monitoring.progress import Event, MergeStart, NodeExchange, RoundEnd
from server.monitoring.status import now_utc

METRICS, EXCHANGES = "metrics.jsonl", "exchanges.jsonl"

Line = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file of JSON objects, one a line, that is appended to."""

    path: Path

    def append(self, line: Line) -> None:
        """Add a line at once and whole."""
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            written = os.write(handle, data)
        finally:
            os.close(handle)
        if written < len(data):
            raise OSError(0, "no room for a whole line")

    def keep(self, wanted: Callable[[Line], bool]) -> None:
        """Remove lines that are not wanted, and one that was cut off when written."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if (read := _parse(line)) and wanted(read)]
        if kept != lines or not _ends_whole(self.path):
            write_whole(self.path, "".join(f"{line}\n" for line in kept))


def _parse(line: str) -> Line | None:
    try:
        read = json.loads(line)
    except json.JSONDecodeError:
        return None
    return read if isinstance(read, dict) else None


def _ends_whole(path: Path) -> bool:
    data = path.read_bytes()
    return not data or data.endswith(b"\n")


class MetricsLog:
    """Writes ``metrics.jsonl``: all metrics of the report's round, and what it took.

    A line also has ``time``, ``merge``, ``round``, ``seconds`` (wall time since the
    round before, or since this process began the merge), ``bytes_down`` and
    ``bytes_up`` (content of all messages to the parties and of their replies).
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], datetime] = now_utc,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on behind what is there."""
        self._file, self._clock, self._timer = LineFile(path), clock, timer
        self._since, self._down, self._up = timer(), 0, 0

    def __call__(self, event: Event) -> None:
        """Enter an event; an observer of `server.monitoring.progress`."""
        match event:
            case MergeStart():
                self._file.keep(lambda line: is_finished(line, event))
                self._begin()
            case NodeExchange():
                self._down += event.record.bytes_down
                self._up += event.record.bytes_up
            case RoundEnd():
                self._enter(event)
                self._begin()
            case _:
                return

    def _enter(self, event: RoundEnd) -> None:
        self._file.append(
            {
                "time": self._clock().isoformat(),
                "merge": event.merge,
                "round": event.round,
                "seconds": round(self._timer() - self._since, 3),
                "bytes_down": self._down,
                "bytes_up": self._up,
                **event.metrics.model_dump(mode="json"),
            }
        )

    def _begin(self) -> None:
        self._since, self._down, self._up = self._timer(), 0, 0


class ExchangeLog:
    """Writes ``exchanges.jsonl``: time and bytes of each exchange with each node."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = now_utc) -> None:
        """Go on behind what is there."""
        self._file, self._clock = LineFile(path), clock

    def __call__(self, event: Event) -> None:
        """Enter an event; an observer of `server.monitoring.progress`."""
        match event:
            case MergeStart():
                self._file.keep(lambda line: is_finished(line, event))
            case NodeExchange():
                record = {**asdict(event.record)}
                record["seconds"] = round(event.record.seconds, 3)
                told = {"time": self._clock().isoformat(), "merge": event.merge}
                self._file.append({**told, **record})
            case _:
                return


def is_finished(line: Line, start: MergeStart) -> bool:
    """Whether a line is of a round that is not made again.

    Of the rounds up to the last whole one nothing is made again, except that a merge
    that begins anew also judges the model before any edit.
    """
    if line.get("merge") != start.merge:
        return True
    number = line.get("round")
    return isinstance(number, int) and 0 < start.finished >= number
