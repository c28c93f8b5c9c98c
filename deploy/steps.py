"""What a federation's helpers do that run once, and how health is asked.

The services of docker-compose.yml call it, and so do the hosts of `deploy.namespaces`.
"""

import argparse
import shutil
import ssl
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from editing.files.atomic import partial_file

VOLUMES = Path("/volumes")
PUBLIC = Path("/public")
SUPERLINK = "superlink:8000"
SCRATCH = Path("/tmp")  # of the container, in memory
APP = Path(__file__).resolve().parent.parent
DEFAULT_SCENARIO = APP / "sims" / "scenarios" / "default.toml"
WAIT_SECONDS = 180.0
REQUESTS = "requests.jsonl"
BAD_INPUT, FAILED = 2, 1


def hand_out_credentials(volumes: Path, nodes: int, hosts: Sequence[str]) -> None:
    """Make a federation's credentials once, and give each program its own.

    Further nodes get keys of their own later; nothing that is there is made again. A
    node's key that is there stays, for its party may have put it there, and what others
    receive of the node is the public half of that.

    Args:
        volumes: Holds a folder for each program.
        nodes: How many nodes there are.
        hosts: Names and addresses by which nodes reach the server.
    """
    from sims.processes.credentials import (
        Credentials,
        add_nodes,
        make_credentials,
        read_public_half,
    )

    kept = volumes / "credentials" / "federation"
    if kept.exists():
        made = Credentials(kept)
        missing = nodes - len(made.node_numbers())
        if missing > 0:
            add_nodes(kept, missing)
    else:
        made = make_credentials(kept, nodes, hosts)
    superlink, public = volumes / "superlink", volumes / "public"
    deliver(made.authority, superlink / "ca.crt")
    deliver(made.server_certificate, superlink / "server.pem")
    deliver(made.server_key, superlink / "server.key")
    deliver(made.authority, public / "ca.crt")
    for node in range(nodes):
        own = volumes / f"node-{node}"
        deliver(made.authority, own / "ca.crt")
        if not (own / "node.key").exists():
            deliver(made.node_key(node), own / "node.key")
        half = public / "keys" / f"node_{node}.pub"
        put(read_public_half(own / "node.key"), 0o644, half)


def deliver(file: Path, place: Path) -> None:
    """Copy a file with its mode, whole or not at all."""
    put(file.read_bytes(), stat.S_IMODE(file.stat().st_mode), place)


def put(data: bytes, mode: int, place: Path) -> None:
    """Write a file with its mode, whole or not at all."""
    place.parent.mkdir(exist_ok=True)
    with partial_file(place, mode) as partial:
        partial.write_bytes(data)


def write_example_requests(volumes: Path, scratch: Path, nodes: int) -> None:
    """Write made-up requests for each node.

    Args:
        volumes: Holds a folder for each node's requests.
        scratch: A folder for what is written on the way.
        nodes: How many nodes there are.

    Raises:
        InputError: If a node has requests, which are never overwritten.
    """
    from editing.base.errors import InputError
    from sims.splitting import SplitOrder, split_source

    places = [volumes / f"requests-{node}" / REQUESTS for node in range(nodes)]
    for place in places:
        if place.exists():
            raise InputError(f"{place}: is there already, and stays as it is")
    order = SplitOrder(source="embedded", parties=nodes, sizes=10)
    made = scratch / "example"
    split_source(order, made)
    for node, place in enumerate(places):
        deliver(made / f"party_{node}.jsonl", place)
    shutil.rmtree(made)


def register_nodes(superlink: str, public: Path, scratch: Path) -> None:
    """Register every public key at the SuperLink.

    Args:
        superlink: Its address, as ``host:port``.
        public: Holds the authority's certificate and the folder of public keys.
        scratch: A folder for what Flower's own commands write.
    """
    from deploy.operator import connect, register

    link = connect(scratch, superlink, public / "ca.crt")
    for key in public_keys(public):
        new = register(link, key)
        say(f"{key.stem}: {'registered' if new else 'was registered before'}")


def run_scenario(arguments: argparse.Namespace) -> None:
    """Run a scenario, once as many nodes are online as it has parties.

    That is as many as there are keys, unless the settings name another number. A run
    that keeps checkpoints may resume from one, and a party may have left it for good:
    the run starts with the nodes online, and the server waits for others if it must.

    Args:
        arguments: As `read_arguments` gives them for ``run``.
    """
    from deploy.operator import connect, run, wait_for_nodes
    from server.config import read_scenario

    public: Path = arguments.public
    link = connect(arguments.scratch, arguments.superlink, public / "ca.crt")
    keys = len(public_keys(public))
    first = [f'model.path="{arguments.model}"', f"parties.count={keys}"]
    settings = [*first, *arguments.settings]
    config = read_scenario(arguments.scenario, settings)
    kept = config.output.checkpoint is not None
    wanted = config.run.min_parties if kept else config.parties.count
    wait_for_nodes(link, wanted, WAIT_SECONDS)
    say(f"{wanted} nodes are online")
    run(link, arguments.scenario, settings)
    say("The run is complete")


def public_keys(public: Path) -> list[Path]:
    """List the public keys of the federation's nodes, in the nodes' order."""
    keys = (public / "keys").glob("node_*.pub")
    return sorted(keys, key=lambda key: int(key.stem.removeprefix("node_")))


def is_healthy(address: str, authority: Path | None) -> bool:
    """Whether a program of Flower's answers.

    Args:
        address: The address of its health service.
        authority: The certificate that its own is signed by; None without TLS.
    """
    trusted = ssl.create_default_context(cafile=authority) if authority else None
    try:
        with urllib.request.urlopen(address, timeout=5, context=trusted):
            return True
    except (urllib.error.URLError, OSError):
        return False


def say(line: str) -> None:
    """Print a line for the log of a container."""
    sys.stdout.write(f"{line}\n")


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.steps", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for name in ("credentials", "example-requests"):
        step = steps.add_parser(name)
        step.add_argument("--nodes", type=int, required=True)
        step.add_argument("--hosts", type=str.split, default=[])
    for name in ("register", "run"):
        step = steps.add_parser(name)
        step.add_argument("--superlink", default=SUPERLINK)
        step.add_argument("--public", type=Path, default=PUBLIC)
        step.add_argument("--scratch", type=Path, default=SCRATCH)
    run = steps.choices["run"]
    run.add_argument("scenario", type=Path, nargs="?", default=DEFAULT_SCENARIO)
    run.add_argument("--set", dest="settings", action="append", default=[])
    run.add_argument("--model", default="embedded")
    step = steps.add_parser("healthy")
    step.add_argument("address")
    step.add_argument("--authority", type=Path)
    return parser.parse_args(arguments)


def take(arguments: argparse.Namespace) -> int:
    """Take one step.

    Returns:
        The exit code.
    """
    match arguments.step:
        case "credentials":
            hand_out_credentials(VOLUMES, arguments.nodes, arguments.hosts)
        case "example-requests":
            write_example_requests(VOLUMES, SCRATCH, arguments.nodes)
        case "register":
            register_nodes(arguments.superlink, arguments.public, arguments.scratch)
        case "run":
            run_scenario(arguments)
        case "healthy":
            return 0 if is_healthy(arguments.address, arguments.authority) else 1
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Take the step that the command line names; an error is one line."""
    arguments = read_arguments(words)
    if arguments.step == "healthy":  # asked every few seconds: nothing heavy is loaded
        return take(arguments)
    from editing.base.errors import InputError
    from sims.errors import RunFailedError

    try:
        return take(arguments)
    except (InputError, RunFailedError) as error:
        sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
        return BAD_INPUT if isinstance(error, InputError) else FAILED


if __name__ == "__main__":
    sys.exit(main())
