"""What a run shows while it goes on and when it is done."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from server.report.data import Report

POLL_SECONDS = 0.1
LINE_SECONDS = 5.0
PIPE_WIDTH = 110
SHOWN_BARS = 12
"""Bars on the screen at once; older finished ones are hidden."""

LIBRARIES = ("torch", "transformers", "flwr")
"""What takes long to load, and what a run cannot do without."""


class ProgressEvent(BaseModel):
    """One line of a run's progress file.

    Attributes:
        phase: What is in progress: targets, an exchange, an evaluation, …
        merge: The merge that it belongs to, if only one.
        round: The round that it belongs to, if any.
        done: How much of `total` is done; None if it cannot be counted.
        message: A line for the user.
        error: Why the run ended without a result.
        kind: ``input`` if the error lies in the input of the run.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    phase: str = ""
    merge: str | None = None
    round: int | None = None
    done: int | None = None
    total: int | None = None
    message: str = ""
    error: str | None = None
    kind: str = ""

    @property
    def title(self) -> str:
        """Name the piece of work that the event counts."""
        where = f"round {self.round}" if self.round is not None else None
        return " · ".join(part for part in (self.merge, where, self.phase) if part)

    @property
    def count(self) -> str:
        """How much is done, of how much if that is known."""
        if self.done is None:
            return ""
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    @property
    def is_last(self) -> bool:
        """Whether its piece of work is done."""
        return self.done is not None and self.done == self.total

    @property
    def is_begin(self) -> bool:
        """Whether a piece of work begins that cannot be divided, such as loading."""
        return self.done == 0 and self.total == 1


Show: TypeAlias = Callable[[ProgressEvent], None]


class ProgressFile:
    """The lines of a file that others append to, each given once and whole."""

    def __init__(self, path: Path) -> None:
        """Start before the first line; the file need not exist yet."""
        self._path, self._place = path, 0

    def read_new(self) -> list[ProgressEvent]:
        """Give the events of the lines completed since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._place)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._place += len(whole) + len(newline)
        lines = whole.decode("utf-8", errors="replace").split("\n")
        return [event for line in lines if (event := parse_event(line)) is not None]


def parse_event(line: str) -> ProgressEvent | None:
    """Read one line; None if it is no event."""
    try:
        return ProgressEvent.model_validate(json.loads(line))
    except (json.JSONDecodeError, ValidationError):
        return None


class LinePrinter:
    """Shows progress as plain lines, for pipes and logs."""

    def __init__(self, console: Console, seconds: float = LINE_SECONDS) -> None:
        """Print at most one line in `seconds` for each piece of work."""
        self._console, self._seconds = console, seconds
        self._printed: dict[str, float] = {}

    def show(self, event: ProgressEvent) -> None:
        """Print an event, unless its work began or was printed just now."""
        if not event.message and event.done is None:
            return
        now = time.monotonic()
        since = now - self._printed.setdefault(event.title, now)
        due = event.is_last or event.is_begin or since >= self._seconds
        if not (due or event.message):
            return
        self._printed[event.title] = now
        count = "…" if event.is_begin else event.count
        parts = [time.strftime("%H:%M:%S"), event.title, count, event.message]
        line = "  ".join(part for part in parts if part)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class BarPrinter:
    """Shows progress as bars, for terminals."""

    def __init__(self, progress: Progress) -> None:
        """Draw on a display that its owner starts and stops."""
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: ProgressEvent) -> None:
        """Advance the bar of an event's work; print a message above the bars."""
        if event.message:
            self._progress.console.print(escape(event.message), highlight=False)
        if event.done is None:
            return
        if event.title not in self._tasks:
            self._make_room()
            title = escape(event.title)
            self._tasks[event.title] = self._progress.add_task(title, total=None)
        total = None if event.is_begin else event.total
        self._progress.update(
            self._tasks[event.title], completed=event.done, total=total
        )

    def _make_room(self) -> None:
        """Hide the oldest bars of finished work, so that the newest has a line."""
        shown = [task for task in self._progress.tasks if task.visible]
        finished = [task for task in shown if task.finished]
        for task in finished[: max(0, len(shown) + 1 - SHOWN_BARS)]:
            self._progress.update(task.id, visible=False)


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """Lend a function that draws bars on a terminal and prints lines elsewhere."""
    if not console.is_terminal:
        yield LinePrinter(console).show
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield BarPrinter(progress).show


class Follower:
    """Shows the events that a run appends to a file, until it is finished."""

    def __init__(self, path: Path, show: Show) -> None:
        """Start to follow a file, which need not exist yet."""
        self.show = show
        self._file, self._done = ProgressFile(path), Event()
        self._errors: list[ProgressEvent] = []
        self._poller = Thread(target=self._poll, daemon=True)
        self._poller.start()

    def finish(self) -> ProgressEvent | None:
        """Show all that is written by now, and return the last error event, if any."""
        self._done.set()
        self._poller.join()
        self._show_new()
        return self._errors[-1] if self._errors else None

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self._show_new()

    def _show_new(self) -> None:
        for event in self._file.read_new():
            if event.error is None:
                self.show(event)
            else:
                self._errors.append(event)


@contextmanager
def following(path: Path, console: Console) -> Iterator[Follower]:
    """Show a progress file's events while the block runs."""
    with showing(console) as show:
        follower = Follower(path, show)
        try:
            yield follower
        finally:
            follower.finish()


def announce_loading() -> None:
    """Print at once what the first seconds of a command are spent on.

    Call it once the options are validated and before the libraries are imported.
    Nothing is printed if they are loaded already.
    """
    if all(name in sys.modules for name in LIBRARIES):
        return
    names = f"{', '.join(LIBRARIES[:-1])} and Flower"
    line = f"{time.strftime('%H:%M:%S')}  Starting: loading {names} …"
    console = open_console(stderr=True)
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def open_console(*, stderr: bool = False) -> Console:
    """Write to the terminal as wide as it is, and to a pipe wide enough for a table."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def hush_libraries() -> None:
    """Turn off the progress bars and remarks of transformers."""
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()


def tabulate(report: Report) -> Table:
    """Lay out a report's comparison for a terminal."""
    from server.report.tables import best_merges, caption_overview, lay_out

    overview = lay_out(report, "overview")
    table = Table(
        title=caption_overview(report),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    name, *headings = overview.heads
    table.add_column(name, no_wrap=True)
    _, *columns = zip(*overview.rows, strict=True)
    for heading, column in zip(headings, columns, strict=True):
        # By itself, the library breaks inside a word before it breaks between two.
        width = max(len(heading) // 2 + 1, *map(len, [*heading.split(), *column]))
        table.add_column(heading, justify="right", overflow="fold", max_width=width)
    best = best_merges(report)
    for row in overview.rows:
        table.add_row(*row, style="bold" if row[0] in best else None)
    return table
