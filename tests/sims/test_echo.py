"""Nothing that others wrote steers the terminal, whichever way it is printed."""

import ast
import logging
from pathlib import Path

import pytest
import torch
from rich.table import Table

from editing.base.errors import InputError
from sims.cli.main import BAD_INPUT, fail, main
from sims.console import PlainConsole, open_console
from sims.echo import HarmlessRecord, echo, keep_logs_harmless
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


def test_a_log_line_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Its arguments may come from other parties."""
    before = logging.getLogRecordFactory()
    try:
        keep_logs_harmless()
        with caplog.at_level(logging.WARNING):
            logging.getLogger("any").warning("it said %s", NASTY)
    finally:
        logging.setLogRecordFactory(before)
    (record,) = caplog.records
    assert isinstance(record, HarmlessRecord)
    assert record.getMessage() == f"it said {SHOWN}"


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
    before = logging.getLogRecordFactory()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    logging.setLogRecordFactory(before)
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
