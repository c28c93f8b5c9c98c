"""What a study shows of its trials while it runs them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

ReportTrial: TypeAlias = Callable[[str, float], None]
"""Called with the name of a trial that is done, and its seconds."""


@contextmanager
def trial_progress(
    console: Console, total: int, kept: int, taken: int = 0, *, bars: bool
) -> Iterator[ReportTrial]:
    """Yield a function that prints a line per trial, above a bar on a terminal.

    Args:
        console: Where to print.
        total: Number of all runs.
        kept: Number of those that were finished before the study was stopped.
        taken: Number of those that earlier runs have already.
        bars: Whether a bar is drawn; not where each run draws its own.
    """
    width, done, began = len(str(total)), kept + taken, time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (bars and console.is_terminal),
    )

    def print_line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def report(name: str, seconds: float) -> None:
        nonlocal done
        done += 1
        bar.update(task, completed=done)
        each = (time.monotonic() - began) / (done - kept - taken)
        left = estimate((total - done) * each)
        print_line(f"{done:{width}}/{total}  {name}  {seconds:.1f} s{left}")

    if kept:
        print_line(f"{kept} of {total} trials are finished already")
    if taken:
        print_line(f"{taken} of {total} trials are taken from earlier runs")
    with bar:
        task = bar.add_task("trials", total=total, completed=kept + taken)
        yield report


def estimate(seconds: float) -> str:
    """Say how long it takes still, if that is worth a word."""
    if seconds < 1:
        return ""
    if seconds < 90:
        return f"; about {seconds:.0f} s left"
    return f"; about {seconds / 60:.0f} min left"
