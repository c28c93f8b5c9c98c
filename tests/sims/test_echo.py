"""Nothing that others wrote steers the terminal, whichever way it is printed."""

import ast
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.table import Table

from editing.base.errors import InputError
from sims.cli.main import BAD_INPUT, fail, main
from sims.console import PlainConsole, open_console
from sims.echo import echo, keep_console_harmless
from tests.sims.homes import Base
from tests.trees import modules, name_of, parse

NASTY = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\u2066[bold red]x[/]\ud83d:smile:"
"""Clears the screen, names the window, writes backwards, is markup, and is no text."""

SHOWN = (
    "\\u001b[2J\\u001b]0;title\\u0007\\u009b31m\\u202eevil\\u2066[bold red]x[/]"
    "\\ud83d:smile:"
)


def test_a_line_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout and stderr."""
    echo(NASTY)
    echo(NASTY, err=True)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"{SHOWN}\n")


def test_an_error_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line of a command quotes the file that it refuses."""
    with pytest.raises(SystemExit) as ended:
        fail(InputError(NASTY), BAD_INPUT)
    assert ended.value.code == BAD_INPUT
    assert capsys.readouterr().err == f"Error: {SHOWN}\n"


def test_tables_and_texts_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Headings and cells, whoever laid them out, and plain texts."""
    console = open_console()
    assert isinstance(console, PlainConsole)
    table = Table(title=NASTY)
    table.add_column(NASTY, no_wrap=True)
    table.add_row(NASTY)
    console.print(table, soft_wrap=True)
    console.print(NASTY, soft_wrap=True)
    said = capsys.readouterr().out
    bare = SHOWN.replace("\\u0007", "")  # rich leaves a few controls out
    assert said.count(bare) == 2
    assert said.count(bare[:30]) == 4  # cells are cut to their column
    assert not any(sign in said for sign in "\x1b\x9b\x07\u202e\u2066")


def test_the_trace_of_a_failure_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may quote a file in an error that nobody foresaw."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    keep_console_harmless()
    try:
        raise KeyError("a") from ValueError(NASTY)
    except KeyError as error:
        sys.excepthook(KeyError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.endswith("KeyError: 'a'\n")
    assert f"ValueError: {SHOWN}" in said
    assert "in test_the_trace_of_a_failure_is_shown_as_it_is" in said


@pytest.fixture(autouse=True)
def the_usual_log() -> Iterator[None]:
    """Other tests read what others log."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_metadata_of_a_delta_is_shown_as_it_is(
    form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever made the file chose it."""
    base = Base(tmp_path)
    nasty = NASTY.replace("\ud83d", "")
    update = {f"h.{nasty}.weight": torch.ones(2, 3)}
    main_quietly(["inspect", str(base.write_delta(update, merge=nasty)), *form])
    said = capsys.readouterr()
    for text in said:
        assert not any(sign in text for sign in "\x1b\x9b\x07\u202e\u2066")
    assert "\\u202eevil" in said.out


def main_quietly(arguments: list[str]) -> None:
    """Run a command that ends well."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


APART = {"sims/echo.py", "sims/console.py", "sims/results/summary_tables.py"}
"""Where texts are made harmless, and where a table is written to a file."""


@pytest.mark.parametrize("path", modules("sims"), ids=name_of)
def test_no_module_prints_another_way(path: Path) -> None:
    """Else its texts would reach the terminal as others wrote them."""
    calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    raw = [
        ast.unparse(each)
        for each in calls
        if ast.unparse(each.func) in {"typer.echo", "click.echo", "print", "Console"}
        and ast.unparse(each) != "Console(quiet=True)"
    ]
    assert raw == [] or name_of(path) in APART
