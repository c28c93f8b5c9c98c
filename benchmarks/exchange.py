"""What exchanges with real parties cost: processes, TLS and authentication, loopback.

    python -m benchmarks.exchange [--parties 3] [--shape embedded|gpt2] [--clients warm]

A SuperLink and one SuperNode a party run on this machine, as
`sims.processes.federation` starts them, and merge `collabedit` over one or more rounds.
Seconds and bytes are those in the server's `events.jsonl`: an exchange takes as long as
its slowest party, and its bytes are of the content of all parties' messages. With
`--clients warm` the processes of clients are forked by `sims.processes.warm_clients`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client_process import write_model
from editing.files.atomic import write_private
from editing.requests.edit_request import read_requests
from editing.sources.embedded import locate_embedded
from server.config import RunConfig, read_scenario
from server.monitoring.events import EVENTS, NodeExchange, RoundEnded, read_events
from sims.processes.credentials import make_credentials
from sims.processes.federation import Federation, clean_environment, deployed, describe
from sims.processes.programs import Program
from sims.processes.superlink import APP, SuperLink, follow_to_end
from sims.splitting import write_lines
from strategies.scenario import FlatValue, flatten

SCENARIO = APP / "sims" / "scenarios" / "default.toml"
SETTLING = 2.5
"""Seconds after which a model's files may be known again."""

KB = 1000


@dataclass(frozen=True)
class Exchange:
    """One phase of a round, with all parties.

    Attributes:
        round: Counted from 1; 0 is before any edit.
        phase: The message type.
        seconds: Until the last reply.
        down: Bytes of all messages.
        up: Bytes of all replies.
    """

    round: int
    phase: str
    seconds: float
    down: int
    up: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the federation and write its tables."""
    options = _read_options(arguments)
    with tempfile.TemporaryDirectory(prefix="ce-") as scratch:
        folder = Path(scratch)
        model = make_model(folder, options)
        config = configure(folder, model, options)
        nodes = write_requests(folder, model, config, options)
        time.sleep(SETTLING)
        with federate(folder / "federation", nodes, options.clients) as link:
            started = time.perf_counter()
            follow_to_end(link, link.submit(flatten(config)))
            seconds = time.perf_counter() - started
        written = folder / "results"
        sys.stdout.write(table(read_exchanges(written), options))
        sys.stdout.write(round_table(written, seconds))
    return 0


def make_model(folder: Path, options: argparse.Namespace) -> Path:
    """Find the embedded model, or write one of random weights."""
    if options.shape == "embedded":
        return locate_embedded()
    path = folder / "model"
    count = options.parties * options.requests * options.rounds
    write_model(path, options.shape, "float32", count)
    return path


def configure(folder: Path, model: Path, options: argparse.Namespace) -> RunConfig:
    """Take the default scenario; on random weights, few steps and tokens."""
    words = {
        "model.path": str(model),
        "parties.count": options.parties,
        "parties.requests-per-round": options.requests,
        "run.rounds": options.rounds,
        "output.directory": str(folder / "results"),
    }
    if options.shape != "embedded":
        text = folder / "text.txt"
        lines = json.loads((model / "requests.json").read_text(encoding="utf-8"))
        prompts = (each["prompt"].format(each["subject"]) for each in lines)
        text.write_text("\n".join(prompts), encoding="utf-8")
        words |= {
            "editing.layers": "[2, 3, 4]",
            "editing.v-num-grad-steps": 5,
            "prior.text": str(text),
            "prior.tokens": 500,
        }
    overrides = [f"{key}={value}" for key, value in words.items()]
    return read_scenario(SCENARIO, overrides)


def write_requests(
    folder: Path, model: Path, config: RunConfig, options: argparse.Namespace
) -> list[Mapping[str, FlatValue]]:
    """Write a private file of requests a party, and what each node is told."""
    pool = read_requests(model / "requests.json")
    each = options.requests * config.run.rounds
    nodes: list[Mapping[str, FlatValue]] = []
    for party in range(options.parties):
        file = folder / f"party_{party}.jsonl"
        write_private(file, write_lines(pool[party * each : (party + 1) * each]))
        nodes.append(
            {
                "partition-id": party,
                "requests-path": str(file),
                "model-path": str(model),
                "private-folder": str(folder / f"private_{party}"),
            }
        )
    return nodes


@contextmanager
def federate(
    folder: Path, nodes: Sequence[Mapping[str, FlatValue]], clients: str
) -> Iterator[SuperLink]:
    """Lend the federation, whose client processes start cold or warm."""
    folder.mkdir()
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    if clients == "cold":
        with deployed(folder, nodes, environment=cache) as federation:
            yield federation.link
        return
    credentials = make_credentials(folder / "credentials", len(nodes))
    environment = {**clean_environment(), **cache}
    federation = describe(folder, nodes, credentials, environment)
    keepers = [make_keeper(node) for node in federation.nodes]
    try:
        federation.server.start()
        federation.wait_for_server()
        for number in range(len(nodes)):
            federation.join(number)
        for keeper in keepers:
            keeper.start()
        federation.wait_until_online()
        yield federation.link
    finally:
        end_all(federation, keepers)


def make_keeper(node: Program) -> Program:
    """Have a node leave its clients to `sims.processes.warm_clients`."""
    node.command = [*node.command, "--isolation", "process"]
    port = node.command[node.command.index("--port") + 1]
    words = ["--insecure", "--runtime-api-address", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", "sims.processes.warm_clients", *words]
    log = node.log.with_name("clients.log")
    return Program(f"clients of {node.name}", command, APP, node.environment, log)


def end_all(federation: Federation, keepers: Sequence[Program]) -> None:
    """End all that was started."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(Program.terminate, [*keepers, *federation.programs]))


def read_exchanges(results: Path) -> list[Exchange]:
    """Sum the exchanges over parties, in the order of the run."""
    found: dict[tuple[int, str, int], list[NodeExchange]] = {}
    seen: dict[tuple[int, str, int], int] = {}
    for event in read_events(results / EVENTS):
        if not isinstance(event, NodeExchange):
            continue
        whose = (event.round, event.phase, event.node)
        seen[whose] = seen.get(whose, 0) + 1
        key = (event.round, event.phase, seen[whose])
        found.setdefault(key, []).append(event)
    return [
        Exchange(
            number,
            phase,
            max(each.seconds for each in events),
            sum(each.bytes_down for each in events),
            sum(each.bytes_up for each in events),
        )
        for (number, phase, _), events in found.items()
    ]


def table(exchanges: Sequence[Exchange], options: argparse.Namespace) -> str:
    """Write one row an exchange."""
    rows = "".join(
        f"| {each.round} | {each.phase} | {each.seconds:.1f} "
        f"| {each.down / KB:.1f} | {each.up / KB:.1f} |\n"
        for each in exchanges
    )
    return (
        f"{options.shape}, {options.parties} parties with {options.requests} requests "
        f"each, {options.clients} clients\n\n"
        f"| round | exchange | s | kB down | kB up |\n|---|---|---|---|---|\n{rows}"
    )


def round_table(results: Path, seconds: float) -> str:
    """Write one row a round, and the seconds of the whole run."""
    rows = "".join(
        f"| {each.round} | {each.seconds:.1f} "
        f"| {each.bytes_down / KB:.1f} | {each.bytes_up / KB:.1f} |\n"
        for each in read_events(results / EVENTS)
        if isinstance(each, RoundEnded)
    )
    return (
        f"\n| round | s | kB down | kB up |\n|---|---|---|---|\n{rows}"
        f"\nThe whole run took {seconds:.1f} s.\n"
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exchange")
    parser.add_argument("--shape", choices=("embedded", "gpt2"), default="embedded")
    parser.add_argument("--parties", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10, help="of each, in a round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", choices=("cold", "warm"), default="cold")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
