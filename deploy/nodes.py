"""Write what docker-compose.yml lacks for more than its three nodes.

The result is an override file, which Docker Compose lays over the other by itself::

    python -m deploy.nodes 5 > docker-compose.override.yml
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).resolve().parent.parent / "docker-compose.yml"
PATTERN = "0"
"""The node of the file after which the others are made."""

FIRST_NEW = 3
MOST = 64
"""The largest number of nodes; the image has folders for their volumes."""

HANDED_OUT = ("credentials", "example-requests")
"""The services that give each node its files."""

Table = dict[str, Any]


def add_nodes(compose: Table, nodes: int) -> Table:
    """Write the services, networks and volumes of nodes that a file does not have.

    Args:
        compose: The file, as YAML reads it.
        nodes: How many nodes there shall be in all.

    Returns:
        What is to be laid over the file.
    """
    new = range(FIRST_NEW, nodes)
    services: Table = {
        name: {
            "command": with_count(compose["services"][name]["command"], nodes),
            "volumes": pattern_of(compose["services"][name]["volumes"], new),
        }
        for name in HANDED_OUT
    }
    networks = pattern_of(compose["services"]["proxy"]["networks"], new)
    services["proxy"] = {"networks": networks}
    for node in new:
        own = compose["services"][f"node-{PATTERN}"]
        services[f"node-{node}"] = renumber_all(own, node)
    return {
        "services": services,
        "networks": pick(compose["networks"], new),
        "volumes": pick(compose["volumes"], new),
    }


def with_count(command: Sequence[str], nodes: int) -> list[str]:
    """Write a command for another number of nodes."""
    return [re.sub(r"^--nodes=\d+$", f"--nodes={nodes}", word) for word in command]


def pattern_of(entries: Sequence[str], new: Sequence[int]) -> list[str]:
    """Write the entries of a list for new nodes, after those of the pattern."""
    own = [entry for entry in entries if is_of_pattern(entry)]
    return [renumber(entry, node) for node in new for entry in own]


def pick(table: Table, new: Sequence[int]) -> Table:
    """Write the entries of a table for new nodes, after those of the pattern."""
    own = {name: value for name, value in table.items() if is_of_pattern(name)}
    return {renumber(name, node): own[name] for node in new for name in own}


def is_of_pattern(text: str) -> bool:
    """Return whether an entry belongs to the pattern's node."""
    return renumber(text, 1) != text


def renumber(text: str, node: int) -> str:
    """Replace the pattern's number with another node's."""
    place = rf"((?:node|party|requests|partition-id)[-=]|REQUESTS_){PATTERN}\b"
    return re.sub(place, rf"\g<1>{node}", text)


def renumber_all(value: object, node: int) -> object:
    """Write another node's number in all texts of a table or a list."""
    if isinstance(value, dict):
        return {name: renumber_all(each, node) for name, each in value.items()}
    if isinstance(value, list):
        return [renumber_all(each, node) for each in value]
    return renumber(value, node) if isinstance(value, str) else value


def main(words: Sequence[str] | None = None) -> int:
    """Print the override file for the number of nodes on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.nodes", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("nodes", type=int, metavar="N", help="How many in all.")
    nodes = parser.parse_args(words).nodes
    if not FIRST_NEW < nodes <= MOST:
        parser.error(f"N: wanted more than {FIRST_NEW} and at most {MOST}, got {nodes}")
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    override = add_nodes(compose, nodes)
    sys.stdout.write("# Written by `python -m deploy.nodes`.\n")
    sys.stdout.write(yaml.safe_dump(override, sort_keys=False, width=1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
