"""The command that calls Flower's own command line with a SuperLink of this clone."""

from typing import Annotated

import typer

app = typer.Typer()

PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}


@app.command("flower", context_settings=PASSED_ON)
def call_flower(
    context: typer.Context,
    stop: Annotated[
        bool,
        typer.Option("--stop", help="End this clone's SuperLink, and no other."),
    ] = False,
) -> None:
    """Call `flwr` with a SuperLink of this clone alone.

    For example `python -m sims flower run . --stream`. The SuperLink is started if it
    does not run, at a port of its own and with its own Flower home, .flwr in the clone.
    It stays for the next call until --stop.
    """
    from editing.base.errors import InputError
    from sims.processes.clone_superlink import (
        HOME,
        call_flwr,
        find_superlink,
        stop_superlink,
    )

    if stop == bool(context.args):
        raise InputError(
            "flower: wanted a command of `flwr` such as `run . --stream`, or --stop"
        )
    if stop:
        ended = stop_superlink()
        none = "No SuperLink of this clone runs"
        typer.echo(none if ended is None else f"Ended the SuperLink, process {ended}")
        return
    if find_superlink() is None:
        typer.echo(f"Starting this clone's SuperLink; its log is in {HOME}", err=True)
        typer.echo("To end it: python -m sims flower --stop", err=True)
    raise typer.Exit(call_flwr(context.args))
