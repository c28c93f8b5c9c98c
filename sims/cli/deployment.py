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

ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True}


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

    if check and renew:
        raise InputError("--check: cannot be given with --renew; renew, then check")
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


@app.command("bundle")
def show_bundle(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The clone.", show_default="this one"),
    ] = None,
    files: Annotated[
        bool,
        typer.Option("--files", help="Also list its files, each with its SHA-256."),
    ] = False,
) -> None:
    """Print the SHA-256 of the app as nodes receive it, for `--only-bundle`.

    It is the same for all clones of one version, whatever their folders and times.
    Files that are not as the last commit has them are named.
    """
    from sims.processes.bundles import build_bundle, digest_of, find_changed, list_files
    from sims.processes.superlink import APP

    place = folder or APP
    bundle = build_bundle(place)
    listed = list_files(bundle)
    for name in find_changed(place, listed):
        echo(f"Warning: {name} is not as the last commit has it", err=True)
    echo(digest_of(bundle))
    for name, digest in listed.items() if files else ():
        echo(f"{digest}  {name}")


@app.command("proxy-config")
def show_proxy(
    certificates: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="The folder of ca.crt, server.pem and server.key."
        ),
    ],
    scratch: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="A folder of its own, which nginx can write to."
        ),
    ],
    superlink: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the SuperLink listens.")
    ] = "127.0.0.1:8000",
    listen: Annotated[
        str, typer.Option(metavar="PORT", help="Where nodes come in.")
    ] = "8443",
) -> None:
    """Print the configuration of an nginx that lets nodes in, and nobody else.

    It passes /v1/fleet/ to the SuperLink and refuses all other paths. Run it on the
    SuperLink's machine, of any user: nginx -e stderr -c FILE
    """
    from pathlib import PurePosixPath

    from sims.nodes.proxy import ProxyOrder, write_proxy

    for name, folder in {"certificates": certificates, "scratch": scratch}.items():
        if not folder:  # which a path would read as this folder
            raise InputError(f"--{name}: wanted a folder, got an empty text")
    order = ProxyOrder(
        certificates=PurePosixPath(Path(certificates).absolute()),
        scratch=PurePosixPath(Path(scratch).absolute()),
        superlink=superlink,
        listen=listen,
    )
    echo(write_proxy(order).rstrip())


@app.command("doctor", context_settings=ANY_OPTION)
def examine_node(
    superlink: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="As the SuperNode has it.")
    ],
    root_certificates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As the SuperNode has it.")
    ] = None,
    auth_supernode_private_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As the SuperNode has it.")
    ] = None,
    node_config: Annotated[
        str | None, typer.Option(metavar="FILE", help="As the SuperNode has it.")
    ] = None,
    isolation: Annotated[
        str, typer.Option(metavar="MODE", help="As the SuperNode has it.")
    ] = "subprocess",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="As the SuperNode has it.")
    ] = "127.0.0.1",
    only_bundle: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHA256", help="As the client process has it. Repeatable."
        ),
    ] = None,
) -> None:
    """Check a node where it runs; the exit code is 1 if anything is to be done.

    Give the options that the SuperNode and its client process are started with; all
    others of theirs are ignored. Alarms: control paths that answer here, certificates
    that end within 30 days, a clock that is off, folders that cannot be written,
    private files that others can read, and code that is not approved.
    """
    from argparse import ArgumentTypeError

    from sims.nodes.checks import count_alarms
    from sims.nodes.doctor import NodeOptions, examine
    from sims.processes.bundles import read_digest

    try:
        approved = tuple(read_digest(each) for each in only_bundle or ())
    except ArgumentTypeError as error:
        raise InputError(f"--only-bundle: {error}") from None
    options = NodeOptions(
        superlink=superlink,
        root_certificates=root_certificates,
        key=auth_supernode_private_key,
        node_config=node_config,
        approved=approved,
        isolation=isolation,
        host=host,
    )
    found = list(examine(options))
    for each in found:
        echo(f"{'ALARM' if each.alarm else 'ok'}: {' '.join(each.text.split())}")
    if alarms := count_alarms(found):
        echo(f"{alarms} of {len(found)} checks are alarms", err=True)
        raise typer.Exit(1)


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
