"""One run with real processes on this machine.

Every party has a SuperNode with a key, a file of requests and folders of its own, as on
separate machines. It is given the requests that a simulation of the same scenario would
give it.
"""

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from clients.own_requests import find_shares
from editing.base.errors import InputError
from editing.files.atomic import write_private
from editing.requests.edit_request import EditRequest
from server.config import RunConfig, read_run_config
from sims.processes.federation import deployed
from sims.processes.superlink import follow_to_end, interruptible, scratch_folder
from sims.runs.unfinished import PARTIES
from sims.splitting import write_lines
from strategies.partitioning.settings import RequestsConfig
from strategies.scenario import FEDERATED, FlatValue, flatten


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
        settings = flatten(for_real_nodes(config))
        with deployed(scratch / "federation", nodes, warm=True) as federation:
            run_id = federation.link.submit(settings)
            advice = "Try --verbose for Flower's log"
            follow_to_end(federation.link, run_id, verbose=verbose, advice=advice)


def run_with_files(
    flat: Mapping[str, FlatValue],
    parties: int,  # noqa: ARG001 - the settings say it too
    *,
    draft: Path,
) -> None:
    """Run the app once in this process, with what real nodes would be given.

    Args:
        flat: The run's settings.
        parties: Number of parties.
        draft: The run's folder; what the parties keep goes there.
    """
    from sims.runs.in_process import run_in_process

    config = read_run_config(flat)
    with scratch_folder() as scratch:
        nodes = give_out(config, scratch / "private", draft / PARTIES)
        settings = flatten(for_real_nodes(config))
        run_in_process(settings, len(nodes), node_configs=nodes)


def for_real_nodes(config: RunConfig) -> RunConfig:
    """Remove the settings that choose requests: each node has a file of its own."""
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
    """Write each party's requests, and return the node config of each.

    Args:
        config: The run's settings.
        folder: The folder to make for the requests and the shared key.
        private: Holds a folder for what each party keeps.
    """
    folder.mkdir(mode=0o700)
    key = folder / "group.key"
    write_private(key, token_hex(32))
    nodes: list[dict[str, FlatValue]] = []
    for party, requests in enumerate(share_out(config)):
        file = folder / f"party_{party}.jsonl"
        write_private(file, write_lines(requests))
        node: dict[str, FlatValue] = {
            "partition-id": party,
            "requests-path": str(file),
            "model-path": config.model.path,
            "private-folder": str((private / f"node_{party}").absolute()),
            "key-path": str(key),
            "keep-statistics": config.output.statistics,
        }
        nodes.append(node)
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
