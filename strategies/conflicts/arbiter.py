"""Conflict resolution at the server: tokens in, a resolution for each request out."""

from collections.abc import Collection, Mapping, Sequence

from strategies.conflicts.policies import (
    ConflictRules,
    Entry,
    RoundVerdict,
    Verdict,
    resolve,
)
from strategies.conflicts.records import Resolution, TokenEntry
from strategies.wire.handshakes import FIRST_UNNUMBERED_ID


class Arbiter:
    """Compares the tokens of each round's requests, with one another and with history.

    Attributes:
        rules: What is compared, and which requests are kept.
        history: Tokens of the requests that earlier rounds edited.
        resolutions: By node, the resolutions of its duplicate and conflicting requests:
            those of this round, and those that earlier rounds edited.
    """

    def __init__(self, rules: ConflictRules) -> None:
        """Start without any history."""
        self.rules = rules
        self.history: list[Entry] = []
        self.resolutions: dict[int, list[Resolution]] = {}
        self._kept: list[tuple[int, Entry]] = []

    def resolve_round(
        self,
        number: int,
        entries: Mapping[int, Sequence[TokenEntry]],
        ids: Mapping[int, int] | None,
    ) -> tuple[int, int]:
        """Resolve a round; return the numbers of duplicates and of facts in conflict.

        Args:
            number: The round.
            entries: Tokens by node, the nodes in the order of their parties.
            ids: The id of each node's party, whatever the node claims; None where one
                node represents all parties and names the party of each request.
        """
        claims = {
            Entry(number, _party_of(node, ids, entry), entry.place, *_tokens(entry)): (
                node,
                entry.party,
            )
            for node, sent in entries.items()
            for entry in sent
        }
        verdict = self.compare(claims)
        self._kept = [(claims[each][0], each) for each in verdict.kept]
        self.resolutions = {}
        conflicts = verdict.conflicts if self.rules.finds_conflicts else ()
        disputed = {each.fact for each in conflicts}
        repeated = {entry for each in verdict.duplicates for entry in each.entries}
        for each in verdict.verdicts:
            if each.entry.fact in disputed or each.entry in repeated:
                node, party = claims[each.entry]
                resolution = _resolution(
                    each, party, disputed=each.entry.fact in disputed
                )
                self.resolutions.setdefault(node, []).append(resolution)
        earlier = [entry for each in conflicts for entry in each.entries]
        self._resolve_earlier(number, earlier, list(entries), ids)
        duplicates = sum(len(each.entries) - 1 for each in verdict.duplicates)
        return duplicates, len(disputed)

    def _resolve_earlier(
        self,
        number: int,
        entries: Sequence[Entry],
        nodes: Sequence[int],
        ids: Mapping[int, int] | None,
    ) -> None:
        """Add resolutions of edits of earlier rounds that are contradicted now."""
        for entry in entries:
            if entry.round == number:
                continue
            for node in nodes:
                if ids is None or ids[node] == entry.party:
                    numbered = entry.party < FIRST_UNNUMBERED_ID
                    party = entry.party if numbered else -1
                    kept = _resolution(Verdict(entry, "kept"), party, disputed=True)
                    self.resolutions.setdefault(node, []).append(kept)

    def settle(self, nodes: Collection[int]) -> None:
        """Add the requests that the round edited to the history.

        Those of a node that failed in the round were not edited.
        """
        self.history += [entry for node, entry in self._kept if node in nodes]
        self._kept = []

    def compare(self, claims: Mapping[Entry, object]) -> RoundVerdict:
        """Apply the policy of the rules to a round's requests."""
        conflicts = self.rules.finds_conflicts
        return resolve(
            self.history if conflicts else (),
            claims,
            self.rules.policy if conflicts else "none",
            deduplicate=self.rules.deduplicate,
            ranking=self.rules.ranking,
        )


def _party_of(node: int, ids: Mapping[int, int] | None, entry: TokenEntry) -> int:
    return entry.party if ids is None else ids[node]


def _tokens(entry: TokenEntry) -> tuple[str, str]:
    return entry.fact, entry.target


def _resolution(verdict: Verdict, party: int, *, disputed: bool) -> Resolution:
    """Write a resolution under the number that the party knows itself by."""
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
