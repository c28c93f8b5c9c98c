"""Plain lines for the user, in which nothing foreign can steer the terminal."""

import sys
import traceback
from types import TracebackType

import typer

from editing.base.foreign_text import keep_logs_harmless, make_harmless


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, controls escaped.

    Args:
        text: What to print.
        err: Print to stderr instead of stdout.
    """
    typer.echo(make_harmless(text), err=err)


def keep_console_harmless() -> None:
    """Escape the controls in all that is logged, and in the trace of a failure."""
    keep_logs_harmless()
    sys.excepthook = show_failure


def show_failure(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a traceback as the interpreter does; its last line may quote a file."""
    lines = traceback.format_exception(kind, error, trace)
    echo("".join(lines).rstrip(), err=True)
