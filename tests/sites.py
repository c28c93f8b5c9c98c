"""Runs among parties on machines of their own, as far as one machine can show it.

Each party is a SuperNode with TLS, a key and a private file of requests; the server app
is started by a SuperLink. Tests stop and kill any of them by signal.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor

from editing.algebra.deltas import load_delta
from editing.requests.edit_request import EditRequest, to_counterfact
from server.config import read_run_config
from server.monitoring.events import (
    EVENTS,
    Event,
    NodeExchange,
    PhaseProgress,
    RunEnded,
    drop_repeated_rounds,
    read_events,
)
from server.preparation import prepare
from server.report.data import RoundMetrics, read_report
from sims.cli.main import main
from sims.processes.federation import ACCEPTED, Federation
from sims.processes.superlink import COMPLETED, FINISHED, ask_status
from strategies.scenario import FlatValue
from tests.federation import edit_in_rounds, settings_of, write_json
from tests.hosts import WORK_SECONDS, Host, cpu_seconds

PATIENCE = 600.0
"""Seconds after which a test gives up; far more than anything takes."""

LOOK_SECONDS = 0.02
STORED = 1e-7
"""Relative difference that rounding to float32 makes, in which deltas are saved."""


@dataclass(frozen=True)
class Sites:
    """A run among parties that each hold a file of their own.

    Attributes:
        folder: Holds their files and the run's results.
        flat: The run's settings, as `settings_of` writes them.
        hands: The parties' requests, one in each round.
    """

    folder: Path
    flat: dict[str, FlatValue]
    hands: Sequence[Sequence[EditRequest]]

    @property
    def results(self) -> Path:
        """Where the run's results will be."""
        return self.folder / "results"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the last completed round."""
        return self.folder / "checkpoint" / "collabedit.safetensors"

    def node_configs(self) -> list[dict[str, FlatValue]]:
        """Write the parties' files, and the configuration of each node."""
        found: list[dict[str, FlatValue]] = []
        for party, hand in enumerate(self.hands):
            place = self.folder / f"site_{party}"
            place.mkdir()
            file = place / "requests.json"
            write_json(file, [to_counterfact(request) for request in hand])
            paths = {"requests-path": file, "private-folder": place / "private"}
            found.append(
                {"partition-id": party, **{k: str(v) for k, v in paths.items()}}
            )
        return found

    def edit_here(self, rounds: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Edit on one machine what parties asked for, given who took part in each."""
        config = read_run_config(self.flat)
        prepared = prepare(config)
        requests = [
            [self.hands[party][number] for party in parties]
            for number, parties in enumerate(rounds)
        ]
        return edit_in_rounds(prepared, requests, prepared.memory_weight(config.prior))

    def delta(self) -> dict[str, Tensor]:
        """Read the updates of the run."""
        return load_delta(self.results / "delta.safetensors")[0]

    def rounds(self) -> tuple[RoundMetrics, ...]:
        """Read the metrics of each round from the report."""
        return read_report(self.results / "report.json").runs[0].metrics

    @property
    def events_file(self) -> Path:
        """The file in which the run records its events."""
        return self.folder / "watch" / EVENTS

    def events(self) -> list[Event]:
        """Read the events so far."""
        return read_events(self.events_file) if self.events_file.exists() else []

    def wait_for(self, phase: str, number: int) -> None:
        """Wait until an exchange of a round has begun."""

        def begun() -> bool:
            events = self.events()
            errors = [each.error for each in events if isinstance(each, RunEnded)]
            assert errors == [], errors
            steps = [each for each in events if isinstance(each, PhaseProgress)]
            return (phase, number) in [(each.phase, each.round) for each in steps]

        wait_until(begun, f"{phase} of round {number}")

    def contributors(self, number: int) -> list[int]:
        """The parties whose statistics of a round's last layer were taken.

        A round that begins again asks for targets again.
        """
        taken: set[int] = set()
        for phase, party, outcome in self.exchanges(number):
            if phase == "train.targets":
                taken.clear()
            elif phase == "train.statistics" and outcome == "ok":
                taken.add(party)
        return sorted(taken)

    def exchanges(self, number: int) -> list[tuple[str, int, str]]:
        """Phase, party and outcome of each exchange of a round, in their order."""
        return [
            (each.phase, -1 if each.party is None else each.party, each.outcome)
            for each in drop_repeated_rounds(self.events())
            if isinstance(each, NodeExchange) and each.round == number
        ]


def lay_out(
    world: Path,
    folder: Path,
    requests: Sequence[EditRequest],
    parties: int,
    rounds: int,
    **run: FlatValue,
) -> Sites:
    """Partition requests, one a party and round, and write a run's settings.

    Args:
        world: The folder of the model.
        folder: Where everything goes.
        requests: At least as many as there are parties times rounds.
        parties: How many there are.
        rounds: How many there are.
        run: Further settings of the table ``run``.
    """
    flat = settings_of(
        world,
        parties={"count": parties, "requests-per-round": 1},
        run={"rounds": rounds, **run},
        output={
            "directory": str(folder / "results"),
            "checkpoint": str(folder / "checkpoint"),
            "watch": str(folder / "watch"),
        },
    )
    hands = [requests[party::parties][:rounds] for party in range(parties)]
    return Sites(folder, flat, hands)


def command_here(*arguments: str) -> None:
    """Run the command line in this process, whose libraries are loaded."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code, arguments


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: If it does not come to that.
    """
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(LOOK_SECONDS)


def working_client(host: Host, before: Sequence[int]) -> int:
    """Wait until a client process works on a message, and return its number.

    Args:
        host: Whose.
        before: Processes that answered earlier messages and may not have ended yet.
    """
    found: list[int] = []

    def at_work() -> bool:
        new = [each for each in host.clients() if each not in before]
        found[:] = [each for each in new if cpu_seconds(each) >= WORK_SECONDS]
        return bool(found)

    wait_until(at_work, f"a client process of {host.node.name} at work")
    return found[0]


def start_until_accepted(host: Host) -> int:
    """Start a killed machine as a service manager does, and count the tries.

    The SuperLink refuses a node while it takes an earlier one with its key for alive.
    """
    known, tries = host.node.read_log().count(ACCEPTED), 0

    def accepted() -> bool:
        nonlocal tries
        if not host.node.is_running:
            tries += 1
            host.stop()
            host.start()
        return host.node.read_log().count(ACCEPTED) > known

    wait_until(accepted, f"{host.node.name} to be accepted")
    return tries


def wait_for_end(sites: Federation, run: str) -> tuple[str, str]:
    """Wait until a run is over, and return its status and the reason."""
    found = ("", "")

    def over() -> bool:
        nonlocal found
        sites.link.follow(run)  # to the end of the run or of the SuperLink
        found = ask_status(sites.link, run, PATIENCE)
        return found[0].startswith(FINISHED)

    wait_until(over, f"the end of run {run}")
    return found


def run_to_end(sites: Federation, run: str) -> None:
    """Wait until a run is over, and require that it ended well."""
    status, details = wait_for_end(sites, run)
    assert status == COMPLETED, f"{details}: {sites.server.read_log()[-3000:]}"
