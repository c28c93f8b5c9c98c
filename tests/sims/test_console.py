"""What a run shows while it goes on and when it is done."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from server.monitoring.events import (
    Event,
    PhaseProgress,
    RoundEnded,
    RunEnded,
    write_event,
)
from server.report.data import Report, RoundMetrics
from sims.console import (
    PIPE_WIDTH,
    SHOWN_BARS,
    BarPrinter,
    LinePrinter,
    following,
    open_console,
    tabulate,
)
from tests.server.events import ended, exchanged, merging
from tests.server.report.test_data import MERGES, make_report, without_true_targets
from tests.server.report.test_rounds import make_rounds


def piped() -> Console:
    """Write as to a pipe, and keep what is written."""
    return Console(file=io.StringIO(), width=PIPE_WIDTH)


def text_of(console: Console) -> str:
    """Read what was written."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def append(path: Path, *events: Event) -> None:
    """Write events as the server does."""
    with path.open("a") as file:
        file.writelines(f"{write_event(event)}\n" for event in events)


def step(phase: str, done: int, total: int | None, **more: object) -> PhaseProgress:
    """Make an event of progress."""
    given = {"phase": phase, "done": done, "total": total, **more}
    return PhaseProgress.model_validate(given)


def test_lines_are_few_and_the_last_is_among_them() -> None:
    """A pipe gets one line in a while for each piece of work."""
    console = piped()
    printer = LinePrinter(console, seconds=60)
    for phase in ("targets", "exchange"):
        for done in range(101):
            printer.show(step(phase, done, 100, round=2))
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == [
        "round 2 · targets  100/100",
        "round 2 · exchange  100/100",
    ]


def test_an_accepted_round_leaves_a_line() -> None:
    """Of a gate that is open there is nothing to say."""
    console = piped()
    for gate in ("", "held-out facts 100.0 -> 98.0 per cent of 50"):
        metrics = RoundMetrics(gate=gate)
        event = RoundEnded(merge="collabedit", round=1, metrics=metrics)
        LinePrinter(console).show(event)
    (line,) = text_of(console).splitlines()
    said = "Gate: collabedit, round 1 accepted; held-out facts 100.0 -> 98.0 per cent"
    assert said in line


def test_work_that_cannot_be_divided_is_announced_when_it_begins() -> None:
    """Loading a model takes a minute in which nothing else could be printed."""
    console = piped()
    printer = LinePrinter(console, seconds=60)
    for done in (0, 1):
        printer.show(step("loading the model", done, 1))
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == ["loading the model  …", "loading the model  1/1"]


def test_long_work_is_heard_of_before_it_ends() -> None:
    """Once in a while."""
    console = piped()
    printer = LinePrinter(console, seconds=0.05)
    for done in range(3):
        printer.show(step("targets", done, 9))
        time.sleep(0.06)
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == ["targets  1/9", "targets  2/9"]


def test_messages_are_always_printed_as_they_are() -> None:
    """Brackets are no markup."""
    console = piped()
    printer = LinePrinter(console, seconds=60)
    for number in range(2):
        printer.show(exchanged(number, "it is [late]", number=3))
    printer.show("nodes [2] [b]")
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == [
        "collabedit, round 3 continues without party 0: it is [late]",
        "collabedit, round 3 continues without party 1: it is [late]",
        "nodes [2] [b]",
    ]


def test_a_party_is_called_by_its_name() -> None:
    """Never by Flower's number of its node; in bars' messages, too."""
    console = piped()
    event = exchanged(0, "it is late", node=2**62, name="hospital-a")
    LinePrinter(console).show(event)
    BarPrinter(Progress(console=console)).show(event)
    assert text_of(console).count("without hospital-a: it is late") == 2
    assert str(2**62) not in text_of(console)


def test_an_event_that_says_nothing_is_not_printed() -> None:
    """Such as a good exchange or the end of a round, which are for other readers."""
    console = piped()
    for event in (merging(), exchanged(0), ended(1)):
        LinePrinter(console).show(event)
        BarPrinter(Progress(console=console)).show(event)
    assert text_of(console) == ""


def test_bars_never_fill_the_screen_and_work_is_never_hidden() -> None:
    """Many merges have more phases than a terminal has lines."""
    progress = Progress(console=piped())
    printer = BarPrinter(progress)
    printer.show(step("slow", 1, 9))
    for number in range(3 * SHOWN_BARS):
        for done in (1, 2):
            printer.show(step(f"work {number}", done, 2))
        shown = [task.description for task in progress.tasks if task.visible]
        assert len(shown) <= SHOWN_BARS
        assert {"slow", f"work {number}"} <= set(shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_all_that_is_written_is_shown_before_the_end(
    tmp_path: Path, terminal: bool
) -> None:
    """On a terminal and in a pipe, whatever the moment of the last line."""
    path = tmp_path / "events.jsonl"
    console = Console(
        file=io.StringIO(), width=PIPE_WIDTH, force_terminal=terminal, color_system=None
    )
    with following(path, console) as follower:
        append(path, step("targets", 4, 4, merge="ties"))
        wait_for(lambda: "targets" in text_of(console))
        append(path, step("covariance", 7, 7))
        assert follower.finish() is None
    assert "ties · targets" in text_of(console)
    assert "covariance" in text_of(console)
    assert "7/7" in text_of(console)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Give another thread time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_events_of_an_earlier_process_are_not_shown_again(tmp_path: Path) -> None:
    """Nor does the error that stopped it count, when the run is resumed."""
    path, console = tmp_path / "events.jsonl", piped()
    append(path, step("covariance", 7, 7), RunEnded(error="stopped", cause="run"))
    with following(path, console) as follower:
        append(path, step("targets", 4, 4))
        assert follower.finish() is None
    assert "targets" in text_of(console)
    assert "covariance" not in text_of(console)


def test_an_error_is_handed_over_and_not_shown(tmp_path: Path) -> None:
    """The command line says it once, as the last thing."""
    path, console = tmp_path / "events.jsonl", piped()
    with following(path, console) as follower:
        append(path, RunEnded(error="no such file", cause="input"))
        last = follower.finish()
    assert last is not None
    assert (last.error, last.cause) == ("no such file", "input")
    assert "no such file" not in text_of(console)


def shown_at(report: Report, width: int) -> str:
    """Print a report's comparison to a terminal of a width."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(tabulate(report, width))
    return text_of(console)


@pytest.mark.parametrize("width", [80, PIPE_WIDTH])
def test_the_table_names_everything_in_full(width: int) -> None:
    """Every merge, number and heading, and what the short headings mean."""
    written = shown_at(make_report(), width)
    assert "…" not in written
    assert max(map(len, written.splitlines())) <= width
    for word in (*MERGES, "(unedited)", "Score", "ES", "PS", "NS", "2.5e-15"):
        assert word in written.split()
    for word in ("efficacy", "generalization", "specificity"):
        assert word in written


@pytest.mark.parametrize("width", [80, PIPE_WIDTH])
def test_the_table_of_several_rounds_has_the_retention(width: int) -> None:
    """In one table; after one round there is no such column."""
    written = shown_at(make_rounds(2), width)
    assert "Retention" in written.split()
    (row,) = [line for line in written.splitlines() if "ties" in line]
    assert "61.0" in row.split()
    assert "Retention" not in shown_at(make_rounds(1), width)


def test_the_table_of_requests_without_true_targets_has_their_accuracies() -> None:
    """No column of dashes alone but the costs that nobody counted."""
    written = shown_at(without_true_targets(), 80)
    row = next(line for line in written.splitlines() if "ties" in line).split()
    assert row[1:4] == ["91.5", "82.5", "73.5"]
    assert "Locality" in written
    assert "success" not in written


def test_a_pipe_is_wide_enough() -> None:
    """Whatever the terminal that the program was started from."""
    console = open_console()
    assert console.is_terminal or console.width == PIPE_WIDTH
