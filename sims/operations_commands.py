"""The commands for who runs the system for weeks: status, estimate.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command("status")
def show_run_status(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The run's folder, with or without `.unfinished`."
        ),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until the run has ended.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, one object a line.")
    ] = False,
) -> None:
    """Show how a run stands: round, exchange, parties, and the last error of each.

    The exit code is 1 if the run has failed, or says nothing any more.
    """
    from sims.console import open_console
    from sims.status import show_status

    console = open_console()
    if not show_status(folder.absolute(), console, as_json=as_json, watch=watch):
        raise typer.Exit(1)
