"""The exchange of blind tokens, and the resolutions that follow from them."""

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from editing.algebra.statistics import StatisticsError
from strategies.conflicts.arbiter import Arbiter
from strategies.conflicts.records import TokenEntry, read_tokens
from strategies.rounds.limits import Limits
from strategies.rounds.registry import PartyRegistry
from strategies.wire.messages import Job, Phase


def collect_tokens(
    registry: PartyRegistry, grid: Grid, number: int, job: Job, limits: Limits
) -> dict[int, tuple[TokenEntry, ...]]:
    """Ask the active parties for the tokens of their requests of a round, by node."""
    asking = registry.address(Phase.TOKENS, job, ArrayRecord())
    entries = {}
    for reply in registry.exchange(grid, number, asking):
        node = reply.metadata.src_node_id
        try:
            found = read_tokens(reply.content)
            party = registry.parties.number_of(node)
            limits.validate_requests(len(found), number, party)
            entries[node] = found
        except StatisticsError as error:
            registry.refuse(number, node, str(error))
    registry.require_enough(number)
    return entries


def resolve_conflicts(
    arbiter: Arbiter,
    registry: PartyRegistry,
    grid: Grid,
    number: int,
    job: Job,
    limits: Limits,
) -> None:
    """Resolve duplicate and conflicting requests, and count them in the outcome.

    Args:
        arbiter: Keeps the resolutions.
        registry: Knows the active parties and their ids.
        grid: Flower's connection to the nodes.
        number: The round.
        job: Contains whether one node represents all parties.
        limits: Upper bounds on a party's requests.
    """
    entries = collect_tokens(registry, grid, number, job, limits)
    outcome = registry.outcomes[number]
    every = {node: registry.parties.id_of(node) for node in entries}
    ids = None if job.pooled else every
    outcome.duplicates, outcome.conflicts = arbiter.resolve_round(number, entries, ids)
