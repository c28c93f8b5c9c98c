"""What a study shows of its trials while it runs them."""

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
)

ReportTrial: TypeAlias = Callable[[str, float], None]
"""Called with the name of a trial that is done, and its seconds."""


@contextmanager
def trial_progress(
    console: Console, total: int, kept: int, *, bars: bool
) -> Iterator[ReportTrial]:
    """Yield a function that prints a line per trial, above a bar on a terminal.

    Args:
        console: Where to print.
        total: Number of all runs.
        kept: Number of those that were finished before the study was stopped.
        bars: Whether a bar is drawn; not where each run draws its own.
    """
    width, done = len(str(total)), kept
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not (bars and console.is_terminal),
    )

    def print_line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def report(name: str, seconds: float) -> None:
        nonlocal done
        done += 1
        bar.update(task, completed=done)
        print_line(f"{done:{width}}/{total}  {name}  {seconds:.1f} s")

    if kept:
        print_line(f"{kept} of {total} trials are finished already")
    with bar:
        task = bar.add_task("trials", total=total, completed=kept)
        yield report
