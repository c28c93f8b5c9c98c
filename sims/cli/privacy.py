"""The commands for parties that do not trust each other: audit, remove.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import logging
from pathlib import Path
from typing import Annotated

import typer

from sims.cli.options import check_new_file, check_new_folder
from sims.echo import echo

app = typer.Typer()

ResultsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RESULTS", help="A run's folder, or that of one merge of a comparison."
    ),
]


@app.command("remove")
def remove_from_run(
    party: Annotated[int, typer.Argument(min=0, help="The party's number.")],
    results: ResultsArgument,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make; it must not exist.")
    ],
    own: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The party's own statistics, if the run has secure sums: the folder "
            "that its node keeps, or a file of it.",
        ),
    ] = None,
) -> None:
    """Write the update of a finished run as it would be without one party.

    The run must have kept the parties' statistics (`output.statistics = true`). For
    given keys and targets the result is exact; removal.json says what still owes to
    the party.
    """
    from sims.console import announce_loading
    from sims.results.choice import choose_run

    check_new_folder(output)
    choose_run(results)  # before anything takes long
    announce_loading()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    from sims.results.removal import remove_party, show_removal

    show_removal(remove_party(party, results, output, own))
    echo(f"Written: {output}")


@app.command("audit")
def audit_results(
    results: ResultsArgument,
    guesses: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Guessed requests: a file, a saved folder, `hub:NAME` or `embedded`.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a JSON file, for you alone."),
    ] = None,
) -> None:
    """Test what each observer of a run can tell about guessed requests.

    The server is tested if the run kept the parties' statistics (`output.statistics =
    true`), whoever holds the update always. Recall, false alarms and AUC are shown
    where the parties' requests are known, in simulations.
    """
    from sims.console import announce_loading
    from sims.results.choice import choose_run

    if output is not None:
        check_new_file(output)
    choose_run(results)  # before anything takes long
    announce_loading()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    from sims.audit.audit import audit_run
    from sims.audit.tables import show_audit

    show_audit(audit_run(results, guesses, output))
