"""What a run shows while it goes on and when it is done."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from sims.console import (
    PIPE_WIDTH,
    SHOWN_BARS,
    BarPrinter,
    LinePrinter,
    ProgressEvent,
    ProgressFile,
    following,
    open_console,
    parse_event,
    tabulate,
)
from tests.server.report.test_data import MERGES, make_report, without_true_targets
from tests.server.report.test_rounds import make_rounds

events = st.lists(
    st.builds(
        ProgressEvent,
        phase=st.sampled_from(["targets", "exchange"]),
        merge=st.none() | st.text(max_size=5),
        round=st.none() | st.integers(0, 3),
        done=st.none() | st.integers(0, 9),
        total=st.none() | st.integers(1, 9),
        message=st.text(max_size=9),
    ),
    max_size=6,
)


def piped() -> Console:
    """Write as to a pipe, and keep what is written."""
    return Console(file=io.StringIO(), width=PIPE_WIDTH)


def text_of(console: Console) -> str:
    """Read what was written."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def append(path: Path, *written: dict[str, object]) -> None:
    """Write events as the server does."""
    with path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in written)


@given(written=events, cuts=st.lists(st.integers(0, 400), max_size=5))
def test_each_event_is_read_once_however_the_file_grows(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[ProgressEvent],
    cuts: list[int],
) -> None:
    """A line that is half written waits until it is whole."""
    path = tmp_path_factory.mktemp("progress") / "progress.jsonl"
    file, read = ProgressFile(path), []
    lines = "".join(event.model_dump_json() + "\n" for event in written).encode()
    for cut in [*sorted(cuts), len(lines)]:
        path.write_bytes(lines[:cut])
        read += file.read_new()
    assert read == written


def test_a_file_that_is_not_there_yet_has_no_events(tmp_path: Path) -> None:
    """The server writes it when it has something to say."""
    file = ProgressFile(tmp_path / "later.jsonl")
    assert file.read_new() == []


@pytest.mark.parametrize("line", ["", "{", "3", '{"done": "many"}'])
def test_what_is_no_event_is_passed_over(line: str) -> None:
    """Progress never stops a run."""
    assert parse_event(line) is None


def test_lines_are_few_and_the_last_is_among_them() -> None:
    """A pipe gets one line in a while for each piece of work."""
    console = piped()
    printer = LinePrinter(console, seconds=60)
    for phase in ("targets", "exchange"):
        for done in range(101):
            printer.show(ProgressEvent(phase=phase, round=2, done=done, total=100))
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == [
        "round 2 · targets  100/100",
        "round 2 · exchange  100/100",
    ]


def test_work_that_cannot_be_divided_is_announced_when_it_begins() -> None:
    """Loading a model takes a minute in which nothing else could be printed."""
    console = piped()
    printer = LinePrinter(console, seconds=60)
    for done in (0, 1):
        printer.show(ProgressEvent(phase="loading the model", done=done, total=1))
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == ["loading the model  …", "loading the model  1/1"]


def test_long_work_is_heard_of_before_it_ends() -> None:
    """Once in a while."""
    console = piped()
    printer = LinePrinter(console, seconds=0.05)
    for done in range(3):
        printer.show(ProgressEvent(phase="targets", done=done, total=9))
        time.sleep(0.06)
    lines = [line.split("  ", 1)[1] for line in text_of(console).splitlines()]
    assert lines == ["targets  1/9", "targets  2/9"]


def test_messages_are_always_printed_as_they_are() -> None:
    """Brackets are no markup."""
    console = piped()
    printer = LinePrinter(console, seconds=60)
    for number in range(2):
        printer.show(ProgressEvent(phase="refusal", message=f"node [{number}] [b]"))
    assert "node [0] [b]" in text_of(console)
    assert "node [1] [b]" in text_of(console)


def test_an_event_that_says_nothing_is_not_printed() -> None:
    """Such as the last one of a run, which is for programs."""
    console = piped()
    LinePrinter(console).show(parse_event('{"report": "/a"}') or ProgressEvent())
    assert text_of(console) == ""


def test_bars_never_fill_the_screen_and_work_is_never_hidden() -> None:
    """All five merges have more phases than a terminal has lines."""
    progress = Progress(console=piped())
    printer = BarPrinter(progress)
    printer.show(ProgressEvent(phase="slow", done=1, total=9))
    for number in range(3 * SHOWN_BARS):
        for done in (1, 2):
            printer.show(ProgressEvent(phase=f"work {number}", done=done, total=2))
        shown = [task.description for task in progress.tasks if task.visible]
        assert len(shown) <= SHOWN_BARS
        assert {"slow", f"work {number}"} <= set(shown)


@pytest.mark.parametrize("terminal", [True, False])
def test_all_that_is_written_is_shown_before_the_end(
    tmp_path: Path, terminal: bool
) -> None:
    """On a terminal and in a pipe, whatever the moment of the last line."""
    path = tmp_path / "progress.jsonl"
    console = Console(
        file=io.StringIO(), width=PIPE_WIDTH, force_terminal=terminal, color_system=None
    )
    with following(path, console) as follower:
        append(path, {"phase": "targets", "merge": "ties", "done": 4, "total": 4})
        wait_for(lambda: "targets" in text_of(console))
        append(path, {"phase": "covariance", "done": 7, "total": 7})
        assert follower.finish() is None
    assert "ties · targets" in text_of(console)
    assert "covariance" in text_of(console)
    assert "7/7" in text_of(console)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Give another thread time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_an_error_is_handed_over_and_not_shown(tmp_path: Path) -> None:
    """The command line says it once, as the last thing."""
    path, console = tmp_path / "progress.jsonl", piped()
    with following(path, console) as follower:
        append(path, {"error": "no such file", "kind": "input"})
        last = follower.finish()
    assert last is not None
    assert (last.error, last.kind) == ("no such file", "input")
    assert "no such file" not in text_of(console)


def test_the_table_names_everything_in_full() -> None:
    """Every merge and heading, in the width of a pipe."""
    console = piped()
    console.print(tabulate(make_report()))
    written = text_of(console)
    assert "…" not in written
    for word in (*MERGES, "(unedited)", "Neighbourhood", "Paraphrase", "2.5e-15"):
        assert word in written


def test_the_table_of_several_rounds_names_retention_and_breaks_no_word() -> None:
    """In the width of a pipe; after one round there is no such column."""
    console = piped()
    console.print(tabulate(make_rounds(2)))
    written = text_of(console).split()
    for word in ("Retention", "Neighbourhood", "Paraphrase", "Difference", *MERGES):
        assert word in written
    row = next(line for line in text_of(console).splitlines() if "ties" in line)
    assert "61.0" in row.split()
    console = piped()
    console.print(tabulate(make_rounds(1)))
    assert "Retention" not in text_of(console)


def test_the_table_of_requests_without_true_targets_has_their_accuracies() -> None:
    """No column of dashes alone but the costs that nobody counted."""
    console = piped()
    console.print(tabulate(without_true_targets()))
    written = text_of(console)
    row = next(line for line in written.splitlines() if "ties" in line).split()
    assert row[1:4] == ["91.5", "82.5", "73.5"]
    assert "Locality" in written
    assert "success" not in written


def test_a_pipe_is_wide_enough() -> None:
    """Whatever the terminal that the program was started from."""
    console = open_console()
    assert console.is_terminal or console.width == PIPE_WIDTH
