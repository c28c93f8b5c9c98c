"""What an operator does at a SuperLink: register nodes, wait for them, start a run."""

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from server.config import read_scenario
from sims.errors import RunFailedError
from sims.processes.superlink import (
    CONNECTION,
    QUIET,
    SuperLink,
    follow_to_end,
    search_path,
)
from strategies.scenario import flatten

POLL_SECONDS = 1.0
KNOWN = re.compile(r"public key.{0,40}in use", re.IGNORECASE | re.DOTALL)
"""What Flower answers if a key is registered already."""


def connect(scratch: Path, address: str, authority: Path) -> SuperLink:
    """Prepare a folder from which to call a SuperLink.

    Args:
        scratch: A folder for Flower's configuration and the logs of runs.
        address: The SuperLink's, as ``host:port``.
        authority: The certificate that its own is signed by.
    """
    home = scratch / "flower"
    home.mkdir(parents=True, exist_ok=True)
    (scratch / "empty").mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = {json.dumps(address)}\n"
        f"root-certificates = {json.dumps(str(authority))}\n",
        encoding="utf-8",
    )
    environment = {**os.environ, **QUIET, "FLWR_HOME": str(home)}
    environment["PATH"] = search_path()
    return SuperLink(scratch, environment)


def register(link: SuperLink, key: Path) -> bool:
    """Allow the node with a public key to join.

    Returns:
        Whether it is new; a node that the SuperLink knows stays as it is.

    Raises:
        RunFailedError: If the SuperLink refuses it.
    """
    name = key.stem.replace("node_", "party-")
    named = ["--name", name, "--format", "json"]
    command = ["supernode", "register", str(key), link.connection, *named]
    try:
        link.call(command)
    except RunFailedError as error:
        if KNOWN.search(str(error)):
            return False
        raise
    return True


def count_online(link: SuperLink) -> int:
    """How many nodes the SuperLink hears from; none if it does not answer."""
    try:
        answer = link.call(["supernode", "list", link.connection, "--format", "json"])
    except RunFailedError:
        return 0
    nodes = answer.get("nodes")
    listed = nodes if isinstance(nodes, list) else []
    return sum(node.get("status") == "online" for node in listed)


def wait_for_nodes(link: SuperLink, count: int, seconds: float) -> None:
    """Wait until `count` nodes are online.

    Raises:
        RunFailedError: If they are not in time.
    """
    deadline = time.monotonic() + seconds
    while (online := count_online(link)) < count:
        if time.monotonic() > deadline:
            raise RunFailedError(
                f"{online} of {count} nodes are online after {seconds:.0f} s; look at "
                "the logs of the others. One that was killed is let in again within a "
                "minute or two"
            )
        time.sleep(POLL_SECONDS)


def run(link: SuperLink, scenario: Path, settings: Sequence[str]) -> None:
    """Run a scenario to its end; its log goes to standard error.

    It is an error if the run ended without a result, which `flwr run` does not report.

    Args:
        link: Where to run it.
        scenario: A TOML file.
        settings: What is put over it, as ``table.key=value``.
    """
    run_id = link.submit(flatten(read_scenario(scenario, settings)))
    follow_to_end(link, run_id, verbose=True)
