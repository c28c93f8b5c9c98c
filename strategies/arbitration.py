"""The server's part when requests meet: tokens in, a ruling for each request out."""

from collections.abc import Collection, Mapping, Sequence

from strategies.notices import Ruling, TokenEntry
from strategies.resolution import Entry, RoundVerdict, Verdict, resolve
from strategies.scenario import PartiesConfig


class Arbiter:
    """Compares the tokens of each round's requests, with one another and with history.

    Attributes:
        parties: Says what is compared and by which policy.
        history: Tokens of the requests that earlier rounds edited.
        rulings: What each node is told of its requests in this round; requests that
            met no other one are not among them.
    """

    def __init__(self, parties: PartiesConfig) -> None:
        """Begin with no history."""
        self.parties = parties
        self.history: list[Entry] = []
        self.rulings: dict[int, list[Ruling]] = {}
        self._kept: list[tuple[int, Entry]] = []

    def rule(
        self,
        number: int,
        entries: Mapping[int, Sequence[TokenEntry]],
        places: Mapping[int, int] | None,
    ) -> tuple[int, int]:
        """Rule on a round; gives how many were duplicates, and facts in conflict.

        Args:
            number: The round.
            entries: Tokens by node, the nodes in the order of their parties.
            places: Each node's party, whatever it claims; None where one node speaks
                for all, which says whose each request is.
        """
        claims = {
            Entry(
                number, seat(place, node, places, entry), entry.place, *word(entry)
            ): (
                node,
                entry,
            )
            for place, (node, sent) in enumerate(entries.items())
            for entry in sent
        }
        verdict = self.compare(claims)
        self._kept = [(claims[each][0], each) for each in verdict.kept]
        met = {entry for each in verdict.duplicates for entry in each.entries}
        contradicted = {each.fact for each in verdict.conflicts}
        if not self.resolves:
            contradicted = set()
        self.rulings = {}
        for each in verdict.verdicts:
            node, entry = claims[each.entry]
            disputed = each.entry.fact in contradicted
            if disputed or each.entry in met:
                told = ruling(entry, each, disputed=disputed)
                self.rulings.setdefault(node, []).append(told)
        repeated = sum(len(each.entries) - 1 for each in verdict.duplicates)
        return repeated, len(contradicted)

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


UNPLACED = 1_000_000
"""Parties without a number come after those that have one, in the order of nodes."""


def seat(
    place: int, node: int, places: Mapping[int, int] | None, entry: TokenEntry
) -> int:
    """The party that a claim counts for."""
    if places is None:
        return entry.party
    return places[node] if places[node] >= 0 else UNPLACED + place


def word(entry: TokenEntry) -> tuple[str, str]:
    """Both tokens of a request."""
    return entry.fact, entry.target


def ruling(entry: TokenEntry, verdict: Verdict, *, disputed: bool) -> Ruling:
    """Write what a party is told of one request."""
    reason = verdict.reason
    if reason == "kept":
        reason = "conflict" if disputed else "duplicate"
    return Ruling(
        party=entry.party,
        place=entry.place,
        fact=entry.fact,
        reason=reason,
        kept=verdict.kept,
    )
