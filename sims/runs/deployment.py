"""One run with real processes on this machine, and how far it is from a simulation.

Every party has a SuperNode with a key, a file of requests and folders of its own, as it
would have on a machine of its own. What they are given is what a simulation of the
same scenario gives them, so both must end with one update.
"""

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from rich.console import Console

from clients.own_requests import find_shares
from editing.algebra.deltas import load_delta, relative_difference
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import write_private, write_whole
from editing.requests.edit_request import EditRequest
from server.config import RunConfig, read_run_config, read_scenario
from sims.console import open_console
from sims.errors import RunFailedError
from sims.processes.federation import deployed
from sims.processes.superlink import follow_to_end, interruptible, scratch_folder
from sims.runs.engines import DEPLOYMENT, IN_PROCESS
from sims.runs.jobs import execute, show_results
from sims.runs.unfinished import PARTIES
from sims.splitting import write_lines
from strategies.scenario import FEDERATED, FlatValue, RequestsConfig, flatten

TOLERANCE = 1e-5
"""Relative difference that rotations of a party's own drawing may leave in a delta.

The last bits of a float32 exchange depend on the rotation, and real nodes draw theirs
from the operating system: a seed that others know would undo them.
"""

AGREEMENT = "agreement.json"
"""The file among the results that holds the comparison."""


class Agreement(Settings):
    """How far real processes are from a simulation of the same scenario.

    Attributes:
        difference: Largest over weights of ``‖Δ − Δ'‖ / ‖Δ'‖``.
        tolerance: What it may be.
    """

    difference: float
    tolerance: float


def deploy_locally(
    scenario: Path, overrides: list[str], output: Path, *, verbose: bool
) -> None:
    """Run a scenario with real processes, and hold its update to a simulation's.

    Raises:
        RunFailedError: If the two differ by more than rotations explain.
    """
    config = read_scenario(scenario, overrides)
    execute(config, output, DEPLOYMENT, verbose=verbose)
    console = open_console()
    show_results(output, console)
    found = compare(config, output)
    write_whole(output / AGREEMENT, found.model_dump_json(indent=1) + "\n")
    said = "bit for bit equal" if found.difference == 0 else f"{found.difference:.1e}"
    console.print(
        f"Difference to the same run in one process: {said} "
        f"(at most {found.tolerance:g} is allowed)",
        soft_wrap=True,
        highlight=False,
    )
    if not found.difference <= found.tolerance:
        raise RunFailedError(
            f"the update differs from that of one process by {found.difference:.1e} of "
            f"its size, and at most {found.tolerance:g} comes from rotations; please "
            f"report this with {output / 'params.json'}"
        )


def compare(config: RunConfig, folder: Path) -> Agreement:
    """Run the scenario in this process too, and hold one update to the other."""
    with scratch_folder() as scratch:
        execute(config, scratch / "here", IN_PROCESS, console=Console(quiet=True))
        reference, _ = load_delta(scratch / "here" / "delta.safetensors")
    delta, _ = load_delta(folder / "delta.safetensors")
    exact = config.run.encoding == "dense"
    return Agreement(
        difference=relative_difference(delta, reference),
        tolerance=0.0 if exact else TOLERANCE,
    )


def run_deployed(flat: Mapping[str, FlatValue], draft: Path, *, verbose: bool) -> None:
    """Run the app once, with one real node a party.

    Args:
        flat: The run's settings, as `strategies.scenario.flatten` writes them.
        draft: The run's folder; what the parties keep goes there.
        verbose: Whether Flower's log goes to stderr as well.
    """
    config = read_run_config(flat)
    with scratch_folder() as scratch, interruptible():
        nodes = give_out(config, scratch / "private", draft / PARTIES)
        told = flatten(for_real_nodes(config))
        with deployed(scratch / "federation", nodes, warm=True) as federation:
            run_id = federation.link.submit(told)
            advice = "Try --verbose for Flower's log"
            follow_to_end(federation.link, run_id, verbose=verbose, advice=advice)


def for_real_nodes(config: RunConfig) -> RunConfig:
    """Leave out what chooses requests of a common source: it has been chosen."""
    requests = RequestsConfig(
        source=config.requests.source,
        seed=config.requests.seed,
        phrasings=config.requests.phrasings,
        templates=config.requests.templates,
    )
    return config.model_copy(update={"requests": requests})


def give_out(
    config: RunConfig, folder: Path, private: Path
) -> list[dict[str, FlatValue]]:
    """Write what each party holds, and give what its node is told.

    Args:
        config: The run's settings.
        folder: To be made, for what they hold.
        private: Holds what each of them keeps.
    """
    folder.mkdir(mode=0o700)
    key = folder / "group.key"
    write_private(key, token_hex(32))
    nodes: list[dict[str, FlatValue]] = []
    for party, requests in enumerate(share_out(config)):
        file = folder / f"party_{party}.jsonl"
        write_private(file, write_lines(requests))
        told: dict[str, FlatValue] = {
            "partition-id": party,
            "requests-path": str(file),
            "model-path": config.model.path,
            "private-folder": str((private / f"node_{party}").absolute()),
            "key-path": str(key),
        }
        nodes.append(told)
    return nodes


def share_out(config: RunConfig) -> list[list[EditRequest]]:
    """Each party's requests of all rounds, as a simulation gives them.

    Raises:
        InputError: If a party would have none, or is to have a text as well.
    """
    if config.prior.covariance == FEDERATED:
        raise InputError(
            "`prior.covariance`: a text for each party is not given out here; let the "
            "server `compute` it, or run `flwr run` with a `text-path` at each node"
        )
    shares = find_shares(config.model, config.requests, config.parties)
    rounds = [shares.in_round(1 + number) for number in range(config.run.rounds)]
    found = [
        [request for hand in own for request in hand.requests]
        for own in zip(*rounds, strict=True)
    ]
    for party, requests in enumerate(found):
        if not requests:
            raise InputError(
                f"party {party} has no request, and a real node needs a file with one; "
                "give it some with parties.requests-per-round"
            )
    return found
