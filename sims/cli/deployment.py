"""The commands for real parties and for Flower's own command line."""

from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError
from sims.cli.options import (
    DEFAULT_SCENARIO,
    ScenarioArgument,
    SetOption,
    VerboseOption,
    check_new_folder,
)
from sims.echo import echo

app = typer.Typer()

MAX_DAYS = 36_500
"""The longest validity of a certificate: a century."""

PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
}


@app.command("credentials")
def make_credentials(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make; never in a clone.")
    ],
    nodes: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many key pairs to make; 0 if the nodes make their own."
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name or address by which nodes reach the server. Repeatable; "
            "localhost and 127.0.0.1 always are.",
        ),
    ] = None,
    days: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_DAYS,
            help="For how long the server's certificate is valid; the authority is for "
            "ten years.",
        ),
    ] = 365,
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="Add nodes to the credentials in DIR; nothing else changes."
        ),
    ] = False,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="Sign a new certificate for the server in DIR, of the same names; "
            "nodes keep what they have.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Say when the certificates in DIR end, or that in a copy of ca.crt. "
            "The exit code is 1 if one ends within 30 days.",
        ),
    ] = False,
) -> None:
    """Make an authority, the server's certificate, and a key pair for each node.

    Private files are readable by you alone. docs/deployment.md lists which file goes to
    whom.
    """
    from sims.processes.credentials import Credentials, add_nodes, renew_server
    from sims.processes.credentials import make_credentials as make

    if check:
        check_credentials(output)
        return
    if renew:
        renewed = renew_server(output, days)
        echo(f"For the server: {renewed.server_certificate}, {renewed.server_key}")
        return
    if nodes is None:
        raise InputError("--nodes: wanted how many key pairs to make, such as 3")
    if add:
        refuse_with_add(host)
        numbers = add_nodes(output, nodes)
    else:
        made = make(output, nodes, host or [], days)
        numbers = made.node_numbers()
        echo(f"For all nodes: {made.authority}")
        echo(f"For the server: {made.server_certificate}, {made.server_key}")
        echo(f"Lock away: {made.authority_key}")
    for number in numbers:
        echo(f"For node {number} alone: {Credentials(output).node_key(number)}")
    warn_of_endings(output)


def check_credentials(place: Path) -> None:
    """Print when certificates end; exit with 1 if one ends soon."""
    from sims.processes.credentials import find_endings

    for ending in find_endings(place):
        echo(f"{ending.file}: until {ending.time:%Y-%m-%d %H:%M} UTC")
    if warn_of_endings(place):
        raise typer.Exit(1)


def warn_of_endings(place: Path) -> bool:
    """Warn of certificates that end soon, and return whether there are any."""
    from datetime import UTC, datetime

    from sims.processes.credentials import find_endings

    now = datetime.now(UTC)
    found = [text for each in find_endings(place) if (text := each.warn(now))]
    for text in found:
        echo(f"Warning: {text}", err=True)
    return bool(found)


def refuse_with_add(host: list[str] | None) -> None:
    """Refuse `--host` with `--add`, which leaves the certificate as it is.

    Raises:
        InputError: If it is given.
    """
    if host:
        raise InputError(
            "--host: --add leaves the server's certificate as it is; make new "
            "credentials in another folder to name other hosts"
        )


@app.command("deploy-local")
def deploy_locally(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    parties: Annotated[
        int, typer.Option(min=1, help="How many nodes to start, one a party.")
    ] = 3,
    settings: SetOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder to make for the results.",
            show_default="results/deploy-local/run_NUMBER",
        ),
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Run a scenario with real processes on this machine, and end all of them.

    It starts a SuperLink with TLS and node authentication, and one SuperNode a party
    with a file of requests of its own. The update is then compared with that of the
    same run in one process.
    """
    from server.config import read_scenario
    from server.output import next_folder
    from sims.console import announce_loading

    config = read_scenario(scenario, [f"parties.count={parties}", *(settings or [])])
    folder = (output or next_folder("deploy-local")).absolute()
    check_new_folder(folder)
    announce_loading()
    from sims.runs.agreement import deploy_locally as deploy

    deploy(config, folder, verbose=verbose)


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
        echo(none if ended is None else f"Ended the SuperLink, process {ended}")
        return
    if find_superlink() is None:
        echo(f"Starting this clone's SuperLink; its log is in {HOME}", err=True)
        echo("To end it: python -m sims flower --stop", err=True)
    raise typer.Exit(call_flwr(context.args))
