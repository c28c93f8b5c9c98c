"""Which requests stay when parties contradict or repeat each other: the server's side.

Requests are known by their blind tokens alone. Nothing here depends on the order in
which they arrive: round, party and place in the party's list decide.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from editing.base.errors import InputError

PolicyName: TypeAlias = Literal["none", "first", "last", "priority", "majority", "drop"]
"""The values that a scenario may name; `POLICIES` has the meaning of each."""

Reason: TypeAlias = Literal["kept", "duplicate", "conflict"]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One request as the server knows it; entries sort in the order of their claims.

    Attributes:
        round: When it was brought.
        party: Who brought it.
        place: Its index in the party's list.
        fact: The blind token of subject and relation.
        target: The blind token of what is asked for.
    """

    round: int
    party: int
    place: int
    fact: str
    target: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one request, and why."""

    entry: Entry
    reason: Reason

    @property
    def kept(self) -> bool:
        """Whether the request is edited."""
        return self.reason == "kept"


@dataclass(frozen=True, slots=True)
class Finding:
    """Requests on one fact that were found to belong together.

    Attributes:
        fact: Their blind token.
        entries: All of them, in order.
    """

    fact: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class RoundVerdict:
    """What becomes of a round's requests, and what was found among them.

    Attributes:
        verdicts: One for each new request, in order.
        conflicts: Facts of this round for which two targets or more were asked, the
            requests kept in earlier rounds included.
        duplicates: Requests of this round that ask the same of the same fact.
    """

    verdicts: tuple[Verdict, ...]
    conflicts: tuple[Finding, ...]
    duplicates: tuple[Finding, ...]

    @property
    def kept(self) -> tuple[Entry, ...]:
        """The requests that are edited, in order."""
        return tuple(each.entry for each in self.verdicts if each.kept)


@dataclass(frozen=True, slots=True)
class Claims:
    """All that was asked of one fact, in order.

    Attributes:
        earlier: Requests that were kept in rounds gone by.
        new: Requests of this round; at least one.
        ranking: Parties, the best first.
    """

    earlier: tuple[Entry, ...]
    new: tuple[Entry, ...]
    ranking: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[Entry, ...]:
        """Earlier requests, then new ones."""
        return self.earlier + self.new

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that were asked for, each once, the first one first."""
        return tuple(dict.fromkeys(entry.target for entry in self.all))

    def rank(self, entry: Entry) -> tuple[int, int]:
        """The lower, the better: parties by rank, those without one by number."""
        if entry.party in self.ranking:
            return self.ranking.index(entry.party), 0
        return len(self.ranking), entry.party


Policy: TypeAlias = Callable[[Claims], Collection[str]]
"""Given a fact that is in conflict, the targets that new requests may still ask for."""


def let_all_stay(claims: Claims) -> Collection[str]:
    """Resolve nothing, so that the damage can be seen."""
    return claims.targets


def let_first_win(claims: Claims) -> Collection[str]:
    """First come, first served, over the rounds too."""
    return {claims.all[0].target}


def let_last_win(claims: Claims) -> Collection[str]:
    """The last in order wins, and a new round overrides what an older one edited."""
    return {claims.all[-1].target}


def let_best_ranked_win(claims: Claims) -> Collection[str]:
    """The best ranked party's last word wins, an earlier round's included."""
    best = min(map(claims.rank, claims.all))
    words = [each.target for each in claims.all if claims.rank(each) == best]
    return {words[-1]}


def let_majority_win(claims: Claims) -> Collection[str]:
    """The target that most parties ask for wins, and of equals the first.

    A party counts once for each target that it asks for, however often it does.
    """
    votes = {(entry.target, entry.party) for entry in claims.all}
    voices = [target for target, _ in votes]
    return {max(claims.targets, key=voices.count)}


def drop_all(_: Claims) -> Collection[str]:
    """Edit none of the new requests on a fact in conflict."""
    return ()


POLICIES: Mapping[PolicyName, Policy] = {
    "none": let_all_stay,
    "first": let_first_win,
    "last": let_last_win,
    "priority": let_best_ranked_win,
    "majority": let_majority_win,
    "drop": drop_all,
}


@dataclass(frozen=True, slots=True)
class ConflictRules:
    """What is compared, and which requests are kept.

    Attributes:
        policy: A name of `POLICIES`, or ``ignore`` to
            look for no conflicts.
        deduplicate: Whether equal requests of a round are edited once.
        ranking: Parties, the best first, for ``priority``.
    """

    policy: str = "ignore"
    deduplicate: bool = False
    ranking: tuple[int, ...] = ()

    @property
    def finds_conflicts(self) -> bool:
        """Whether conflicts are looked for."""
        return self.policy != "ignore"


def resolve(
    earlier: Iterable[Entry],
    new: Iterable[Entry],
    policy: str,
    *,
    deduplicate: bool,
    ranking: Sequence[int] = (),
) -> RoundVerdict:
    """Decide a round's requests by what else was asked of their facts.

    All requests for a target that wins stay, being no conflict; `deduplicate` leaves
    the first of them. Whether an earlier round made the same edit plays no part in
    that. A policy or ranking that cannot be used is an `InputError`, and so are new
    requests that are not of one round, or not of a later one than the earlier ones.

    Args:
        earlier: Requests that were kept in rounds gone by.
        new: All requests of this round.
        policy: A name of `POLICIES`.
        deduplicate: Whether equal requests of this round count once.
        ranking: Parties, the best first, for `priority`.
    """
    choose = find_policy(policy)
    check_ranking(ranking)
    before, asked = sorted(earlier), sorted(new)
    _check_rounds(before, asked)
    gone_by, now = _by_fact(before), _by_fact(asked)
    claims = {
        fact: Claims(gone_by.get(fact, ()), entries, tuple(ranking))
        for fact, entries in now.items()
    }
    disputed = {fact: each for fact, each in claims.items() if len(each.targets) > 1}
    winners = {fact: choose(each) for fact, each in disputed.items()}
    return RoundVerdict(
        _decide(asked, winners, deduplicate),
        tuple(Finding(fact, each.all) for fact, each in disputed.items()),
        tuple(each for part in claims.values() for each in _find_duplicates(part)),
    )


def find_policy(name: str) -> Policy:
    """Look a policy up.

    Raises:
        InputError: If there is none of this name.
    """
    for known, policy in POLICIES.items():
        if known == name:
            return policy
    raise InputError(
        f"`{name}` is no policy for conflicts; known are {', '.join(POLICIES)}."
    )


def check_ranking(ranking: Sequence[int]) -> None:
    """Validate that a ranking lists different party numbers.

    Raises:
        InputError: If a number is negative or listed twice.
    """
    listed = list(ranking)
    if min(listed, default=0) < 0 or len(set(listed)) < len(listed):
        raise InputError(
            f"`ranking` wants party numbers from 0, each at most once and the best "
            f"first, got {listed}."
        )


def _check_rounds(earlier: Sequence[Entry], new: Sequence[Entry]) -> None:
    last = earlier[-1].round if earlier else None
    rounds = sorted({entry.round for entry in new})
    if len(rounds) > 1 or (rounds and last is not None and rounds[0] <= last):
        raise InputError(
            "New requests must be of one round, later than the earlier ones; got "
            f"rounds {rounds} after round {last}."
        )


def _by_fact(entries: Sequence[Entry]) -> dict[str, tuple[Entry, ...]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.fact, []).append(entry)
    return {fact: tuple(group) for fact, group in groups.items()}


def _decide(
    new: Sequence[Entry], winners: Mapping[str, Collection[str]], deduplicate: bool
) -> tuple[Verdict, ...]:
    verdicts: list[Verdict] = []
    edited: set[tuple[str, str]] = set()
    for entry in new:
        reason: Reason = "kept"
        if entry.target not in winners.get(entry.fact, (entry.target,)):
            reason = "conflict"
        elif deduplicate and (entry.fact, entry.target) in edited:
            reason = "duplicate"
        else:
            edited.add((entry.fact, entry.target))
        verdicts.append(Verdict(entry, reason))
    return tuple(verdicts)


def _find_duplicates(claims: Claims) -> list[Finding]:
    groups: dict[str, list[Entry]] = {}
    for entry in claims.new:
        groups.setdefault(entry.target, []).append(entry)
    return [
        Finding(group[0].fact, tuple(group))
        for group in groups.values()
        if len(group) > 1
    ]
