"""What a run shows on the terminal, while it runs and at its end."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TypeAlias

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import Segment
from rich.text import Text

from editing.base.foreign_text import make_harmless
from server.monitoring.events import (
    OK,
    EventReader,
    NodeExchange,
    PhaseProgress,
    RoundEnded,
    RunEnded,
    RunEvent,
)
from server.report.data import Report

POLL_SECONDS = 0.1
LINE_SECONDS = 5.0
PIPE_WIDTH = 110
SHOWN_BARS = 12
"""Bars on the screen at once; older finished ones are hidden."""

LIBRARIES = ("torch", "transformers", "flwr")
"""What takes long to load, and what a run cannot do without."""


Shown: TypeAlias = RunEvent | str
"""An event, or a line for the user."""

Show: TypeAlias = Callable[[Shown], None]


class PlainConsole(Console):
    """A terminal that shows texts as they are: no markup, and controls escaped.

    What is printed may quote other parties, their files, and models of others.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        """Write to stdout or stderr, as wide as the terminal if no width is given."""
        super().__init__(
            stderr=stderr, width=width, markup=False, emoji=False, highlight=False
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Escape the controls in the text; those that move the cursor are rich's."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else make_harmless(text), style, control)


def title_of(event: PhaseProgress) -> str:
    """Return the name of the work that an event counts."""
    where = f"round {event.round}" if event.round is not None else None
    return " · ".join(part for part in (event.merge, where, event.phase) if part)


def count_of(event: PhaseProgress) -> str:
    """Return how much is done, and of how much if that is known."""
    if event.is_begin:
        return "…"
    return f"{event.done}" if event.total is None else f"{event.done}/{event.total}"


def message_of(shown: Shown) -> str:
    """Return the line that the user gets; empty for an event that is not for users."""
    if isinstance(shown, NodeExchange) and shown.outcome != OK:
        where = f"{shown.merge}, round {shown.round}"
        return f"{where} continues without {shown.label}: {shown.outcome}"
    if isinstance(shown, RoundEnded) and shown.metrics.gate:
        where = f"{shown.merge}, round {shown.round}"
        return f"Gate: {where} accepted; {shown.metrics.gate}"
    return shown if isinstance(shown, str) else ""


class LinePrinter:
    """Shows progress as plain lines, for pipes and logs."""

    def __init__(self, console: Console, seconds: float = LINE_SECONDS) -> None:
        """Print at most one line in `seconds` for each piece of work."""
        self._console, self._seconds = console, seconds
        self._printed: dict[str, float] = {}

    def show(self, shown: Shown) -> None:
        """Print an event, unless its work began or was printed just now."""
        if message := message_of(shown):
            self._print(message)
        elif isinstance(shown, PhaseProgress):
            title, now = title_of(shown), time.monotonic()
            since = now - self._printed.setdefault(title, now)
            if shown.is_last or shown.is_begin or since >= self._seconds:
                self._printed[title] = now
                self._print(f"{title}  {count_of(shown)}")

    def _print(self, text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')}  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class BarPrinter:
    """Shows progress as bars, for terminals."""

    def __init__(self, progress: Progress) -> None:
        """Draw on a display that its owner starts and stops."""
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, shown: Shown) -> None:
        """Advance the bar of an event's work; print a message above the bars."""
        if message := message_of(shown):
            self._progress.console.print(message, markup=False, highlight=False)
        if not isinstance(shown, PhaseProgress):
            return
        title = title_of(shown)
        if title not in self._tasks:
            self._make_room()
            self._tasks[title] = self._progress.add_task(title, total=None)
        total = None if shown.is_begin else shown.total
        self._progress.update(self._tasks[title], completed=shown.done, total=total)

    def _make_room(self) -> None:
        """Hide the oldest bars of finished work, so that the newest has a line."""
        shown = [task for task in self._progress.tasks if task.visible]
        finished = [task for task in shown if task.finished]
        for task in finished[: max(0, len(shown) + 1 - SHOWN_BARS)]:
            self._progress.update(task.id, visible=False)


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """Yield a function that draws bars on a terminal and prints lines elsewhere."""
    if not console.is_terminal:
        yield LinePrinter(console).show
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield BarPrinter(progress).show


class Follower:
    """Shows the events that a run appends to a file, until it is finished."""

    def __init__(self, path: Path, show: Show) -> None:
        """Start after the present end of a file, which need not exist yet."""
        self.show = show
        self._reader, self._done = EventReader(path, skip_present=True), Event()
        self._ends: list[RunEnded] = []
        self._poller = Thread(target=self._poll, daemon=True)
        self._poller.start()

    def finish(self) -> RunEnded | None:
        """Show all that is written by now, and return the run's end, if it is there."""
        self._done.set()
        self._poller.join()
        self._show_new()
        return self._ends[-1] if self._ends else None

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self._show_new()

    def _show_new(self) -> None:
        for event in self._reader.read_new():
            if isinstance(event, RunEnded):
                self._ends.append(event)
            else:
                self.show(event)


@contextmanager
def following(path: Path, console: Console) -> Iterator[Follower]:
    """Show the events that are added to a file while the block runs."""
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
    console = PlainConsole(stderr=stderr)
    if console.is_terminal:
        return console
    return PlainConsole(stderr=stderr, width=PIPE_WIDTH)


def hush_libraries() -> None:
    """Turn off the progress bars and remarks of transformers."""
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()


def tabulate(report: Report, width: int = PIPE_WIDTH) -> Group:
    """Lay out a report's comparison for a terminal of a width in columns."""
    from server.report.tables import (
        ANSWERS_CAPTION,
        SUCCESS_LEGEND,
        best_merges,
        caption_overview,
        headline,
        lay_out,
    )
    from sims.tables import fit_tables

    best = best_merges(report)
    tables = fit_tables(
        lay_out(report, "overview", short=True),
        width,
        caption_overview(report),
        lambda row: "bold" if row[0] in best else None,
    )
    answers = lay_out(report, "answers", short=True)
    if not answers.is_empty:
        tables += fit_tables(answers, width, ANSWERS_CAPTION)
    scored = "score" in headline(report)
    return Group(*tables, *([Text(f"{SUCCESS_LEGEND}.")] if scored else []))
