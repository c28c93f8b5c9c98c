"""Conflict resolution at the server: tokens in, a resolution for each request out."""

from collections.abc import Collection, Mapping, Sequence

from flwr.app import ArrayRecord
from flwr.serverapp import Grid

from editing.algebra.statistics import StatisticsError
from strategies.conflicts.policies import Entry, RoundVerdict, Verdict, resolve
from strategies.conflicts.records import Resolution, TokenEntry, read_tokens
from strategies.rounds.limits import Limits
from strategies.rounds.registry import UNNUMBERED, PartyRegistry
from strategies.scenario import PartiesConfig
from strategies.wire.messages import Job, Phase


class Arbiter:
    """Compares the tokens of each round's requests, with one another and with history.

    Attributes:
        parties: Says what is compared and by which policy. history: Tokens of the
        requests that earlier rounds edited. resolutions: What each node is told of its
        requests, those of this round and those
            that earlier rounds edited; requests that met no other one are not among
            them.
    """

    def __init__(self, parties: PartiesConfig) -> None:
        """Begin with no history."""
        self.parties = parties
        self.history: list[Entry] = []
        self.resolutions: dict[int, list[Resolution]] = {}
        self._kept: list[tuple[int, Entry]] = []

    def rule(
        self,
        number: int,
        entries: Mapping[int, Sequence[TokenEntry]],
        seats: Mapping[int, int] | None,
    ) -> tuple[int, int]:
        """Rule on a round; gives how many were duplicates, and facts in conflict.

        Args:
            number: The round.
            entries: Tokens by node, the nodes in the order of their parties.
            seats: Each node's party, whatever it claims; None where one node speaks
                for all, which says whose each request is.
        """
        claims = {
            Entry(number, party_of(node, seats, entry), entry.place, *word(entry)): (
                node,
                entry.party,
            )
            for node, sent in entries.items()
            for entry in sent
        }
        verdict = self.compare(claims)
        self._kept = [(claims[each][0], each) for each in verdict.kept]
        self.resolutions = {}
        conflicts = verdict.conflicts if self.resolves else ()
        disputed = {each.fact for each in conflicts}
        met = {entry for each in verdict.duplicates for entry in each.entries}
        for each in verdict.verdicts:
            if each.entry.fact in disputed or each.entry in met:
                node, party = claims[each.entry]
                told = resolution(each, party, disputed=each.entry.fact in disputed)
                self.resolutions.setdefault(node, []).append(told)
        earlier = [entry for each in conflicts for entry in each.entries]
        self._tell_of_earlier(number, earlier, list(entries), seats)
        repeated = sum(len(each.entries) - 1 for each in verdict.duplicates)
        return repeated, len(disputed)

    def _tell_of_earlier(
        self,
        number: int,
        entries: Sequence[Entry],
        nodes: Sequence[int],
        seats: Mapping[int, int] | None,
    ) -> None:
        """Tell who is there that what it had edited before is contradicted now."""
        for entry in entries:
            if entry.round == number:
                continue
            for node in nodes:
                if seats is None or seats[node] == entry.party:
                    party = entry.party if entry.party < UNNUMBERED else -1
                    told = resolution(Verdict(entry, "kept"), party, disputed=True)
                    self.resolutions.setdefault(node, []).append(told)

    def settle(self, nodes: Collection[int]) -> None:
        """Enter the round's requests that were edited into history.

        Those of a node that failed in the round were not, whatever was ruled.
        """
        self.history += [entry for node, entry in self._kept if node in nodes]
        self._kept = []

    @property
    def resolves(self) -> bool:
        """Whether conflicts are looked for."""
        return self.parties.conflicts != "ignore"

    def compare(self, claims: Mapping[Entry, object]) -> RoundVerdict:
        """Judge the round's requests by the policy of the settings."""
        return resolve(
            self.history if self.resolves else (),
            claims,
            self.parties.conflicts if self.resolves else "none",
            deduplicate=self.parties.deduplicate,
            ranking=self.parties.priority,
        )


def collect_tokens(
    registry: PartyRegistry,
    grid: Grid,
    number: int,
    job: Job,
    limits: Limits | None = None,
) -> dict[int, tuple[TokenEntry, ...]]:
    """Ask the parties for the tokens of their requests of a round; by node."""
    limits = limits or Limits()
    asking = registry.address(Phase.TOKENS, job, ArrayRecord())
    entries = {}
    for reply in registry.exchange(grid, number, asking):
        node = reply.metadata.src_node_id
        try:
            found = read_tokens(reply.content)
            limits.check_requests(len(found), number, registry.places.get(node, -1))
            entries[node] = found
        except StatisticsError as error:
            registry.refuse(number, node, str(error))
    registry.require_enough(number)
    return entries


def resolve_round(
    arbiter: Arbiter,
    registry: PartyRegistry,
    number: int,
    entries: Mapping[int, Sequence[TokenEntry]],
    *,
    pooled: bool,
) -> None:
    """Rule on the requests of those who are there, and enter what met.

    Args:
        arbiter: Keeps the resolutions.
        registry: Knows whose node is whose.
        number: The round.
        entries: Tokens by node, the nodes in the order of their parties.
        pooled: Whether one node speaks for all.
    """
    outcome = registry.outcomes[number]
    seats = None if pooled else registry.seats
    outcome.duplicates, outcome.conflicts = arbiter.rule(number, entries, seats)


def party_of(node: int, seats: Mapping[int, int] | None, entry: TokenEntry) -> int:
    """The party that a claim counts for."""
    return entry.party if seats is None else seats[node]


def word(entry: TokenEntry) -> tuple[str, str]:
    """Both tokens of a request."""
    return entry.fact, entry.target


def resolution(verdict: Verdict, party: int, *, disputed: bool) -> Resolution:
    """Write what a party is told of one request, by the number it knows itself by."""
    reason = verdict.reason
    if reason == "kept":
        reason = "conflict" if disputed else "duplicate"
    return Resolution(
        round=verdict.entry.round,
        party=party,
        place=verdict.entry.place,
        fact=verdict.entry.fact,
        reason=reason,
        kept=verdict.kept,
    )
