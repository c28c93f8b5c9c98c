"""What a run shows while it goes on and when it is done."""

import json
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
MOST_BARS = 12


class ProgressEvent(BaseModel):
    """One line of a run's progress file.

    Attributes:
        phase: What is going on: targets, an exchange, an evaluation, …
        merge: For which merge, if for one alone.
        round: In which round, if in one.
        done: How much of `total` is done; None if it cannot be counted.
        message: Something to tell.
        error: Why the run ended without a result.
        kind: ``input`` if the error lies in what the run was given.
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
        """Say how much is done, of how much if that is known."""
        if self.done is None:
            return ""
        return f"{self.done}" if self.total is None else f"{self.done}/{self.total}"

    @property
    def is_last(self) -> bool:
        """Whether its piece of work is done."""
        return self.done is not None and self.done == self.total


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
        if not (event.is_last or event.message or since >= self._seconds):
            return
        self._printed[event.title] = now
        parts = [time.strftime("%H:%M:%S"), event.title, event.count, event.message]
        line = "  ".join(part for part in parts if part)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class BarPrinter:
    """Shows progress as bars, for terminals."""

    def __init__(self, progress: Progress) -> None:
        """Draw on a display that its owner starts and stops."""
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: ProgressEvent) -> None:
        """Advance the bar of an event's work; a message stands above the bars."""
        if event.message:
            self._progress.console.print(escape(event.message), highlight=False)
        if event.done is None:
            return
        if event.title not in self._tasks:
            self._make_room()
            title = escape(event.title)
            self._tasks[event.title] = self._progress.add_task(title, total=None)
        self._progress.update(
            self._tasks[event.title], completed=event.done, total=event.total
        )

    def _make_room(self) -> None:
        """Take away the oldest bars of finished work, lest the newest be cut off."""
        shown = [task for task in self._progress.tasks if task.visible]
        finished = [task for task in shown if task.finished]
        for task in finished[: max(0, len(shown) + 1 - MOST_BARS)]:
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


@contextmanager
def following(
    path: Path, console: Console
) -> Iterator[Callable[[], ProgressEvent | None]]:
    """Show a progress file's events while the block runs.

    The block is lent a function that gives the event that told of an error, if one
    did, of all lines written until it is called.
    """
    file, done = ProgressFile(path), Event()
    errors: list[ProgressEvent] = []

    def show_new(show: Show) -> None:
        for event in file.read_new():
            if event.error is None:
                show(event)
            else:
                errors.append(event)

    def poll(show: Show) -> None:
        while not done.wait(POLL_SECONDS):
            show_new(show)

    def finish() -> ProgressEvent | None:
        done.set()
        poller.join()
        show_new(show)
        return errors[-1] if errors else None

    with showing(console) as show:
        poller = Thread(target=poll, args=(show,), daemon=True)
        poller.start()
        try:
            yield finish
        finally:
            finish()


def open_console(*, stderr: bool = False) -> Console:
    """Write to the terminal as wide as it is, and to a pipe wide enough for a table."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def hush_libraries() -> None:
    """Keep transformers from drawing bars of its own among ours."""
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
        # Left to itself the library breaks inside a word before it breaks between two.
        width = max(len(heading) // 2 + 1, *map(len, [*heading.split(), *column]))
        table.add_column(heading, justify="right", overflow="fold", max_width=width)
    best = best_merges(report)
    for row in overview.rows:
        table.add_row(*row, style="bold" if row[0] in best else None)
    return table
