"""Plain lines for the user, in which nothing foreign can steer the terminal."""

import logging

import typer

from editing.base.foreign_text import make_harmless


class HarmlessRecord(logging.LogRecord):
    """A line of a log; what it quotes may come from other parties or their files."""

    def getMessage(self) -> str:
        """Return the line without controls."""
        return make_harmless(super().getMessage())


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, controls escaped.

    Args:
        text: What to print.
        err: Print to stderr instead of stdout.
    """
    typer.echo(make_harmless(text), err=err)


def keep_logs_harmless() -> None:
    """Escape the controls in all that is logged from now on."""
    logging.setLogRecordFactory(HarmlessRecord)
