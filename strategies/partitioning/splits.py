"""Partition the requests of one source across parties and rounds, by their indices.

The partition follows from the order of the source, the sizes and a seed alone, so that
everyone who computes it gets the same. The whole source is partitioned at once, for as
many rounds as it lasts: how many of them are run changes nothing.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Literal, TypeAlias

import numpy as np

from editing.requests.edit_request import EditRequest

SplitName: TypeAlias = Literal["contiguous", "shuffled", "relation", "dirichlet"]

Indices: TypeAlias = tuple[int, ...]
"""Positions of requests in their source, counted from 0."""

Round: TypeAlias = tuple[Indices, ...]
"""The indices of each party in a round."""

Pieces: TypeAlias = list[list[int]]
"""One party's indices, a list for each relation."""

BySize: TypeAlias = dict[int, deque[list[int]]]
"""A party's pieces by their size."""

SPLIT_STREAM = 1
"""Separates the draws of a split from others of the same seed."""


@dataclass(frozen=True, slots=True)
class Split:
    """How a source is split.

    Attributes:
        name: ``contiguous`` and ``shuffled`` take requests in the given order, round by
            round and party by party. ``relation`` and ``dirichlet`` first assign each
            request to a party by its relation; each party then takes its own in order.
        alpha: The concentration of ``dirichlet``.
        seed: Draws what ``dirichlet`` draws; ``relation`` draws nothing.
    """

    name: SplitName = "contiguous"
    alpha: float = 0.5
    seed: int = 0

    @property
    def in_turn(self) -> bool:
        """Whether parties take requests in order, whatever their relation."""
        return self.name in {"contiguous", "shuffled"}


def relation_of(request: EditRequest) -> str:
    """Name a request's relation by its id, or by its prompt if it has none.

    In CounterFact each relation has few prompts and each prompt one relation.
    """
    return request.relation_id or request.prompt


def partition(
    relations: Sequence[str], listed: Sequence[Sequence[int]], split: Split
) -> tuple[Round, ...]:
    """Partition the indices of a source across parties, for as many rounds as it lasts.

    Parties are disjoint and take the sizes asked for; the last round of a source that
    ends inside it is short. With ``relation`` and ``dirichlet`` a party first takes
    what `assign_relations` gave it, and only if that is too little, what others have to
    spare (`move_spare`). Both weigh each party's total over all rounds.

    Args:
        relations: The relation of each request of the source, in its order.
        listed: Sizes of each party in each round; the last are those of later rounds.
        split: How.
    """
    fitted = fit_sizes(listed, len(relations))
    if split.in_turn:
        rest = iter(range(len(relations)))
        per_party: list[Iterator[int]] = [rest for _ in listed[0]]
    else:
        parties = range(len(listed[0]))
        totals = [sum(sizes[party] for sizes in fitted) for party in parties]
        order, owned = assign_relations(relations, totals, split)
        kept, moved = move_spare(owned, totals)
        per_party = [
            iter([order[place] for place in (*sorted(chain(*own)), *more)])
            for own, more in zip(kept, moved, strict=True)
        ]
    return tuple(
        tuple(tuple(islice(per_party[party], size)) for party, size in enumerate(sizes))
        for sizes in fitted
    )


def partition_whole(relations: Sequence[str], parties: int, split: Split) -> Round:
    """Partition all indices of a source, where no sizes are given.

    ``relation`` breaks no relation and ``dirichlet`` is as it was drawn, so that sizes
    come out as they may; the others are as equal as can be.
    """
    count = len(relations)
    ends = [count * party // parties for party in range(parties + 1)]
    even = [end - start for start, end in pairwise(ends)]
    if split.in_turn:
        return tuple(tuple(range(*pair)) for pair in pairwise(ends))
    totals = [1] * parties if split.name == "dirichlet" else even
    order, owned = assign_relations(relations, totals, split)
    return tuple(tuple(order[each] for each in sorted(chain(*own))) for own in owned)


def fit_sizes(listed: Sequence[Sequence[int]], available: int) -> list[tuple[int, ...]]:
    """Reduce the sizes of all rounds to what there is, party by party.

    Args:
        listed: Sizes by round and party; the last are those of all later rounds.
        available: How many requests there are.
    """
    fitted: list[tuple[int, ...]] = []
    while available > 0:
        sizes = listed[min(len(fitted), len(listed) - 1)]
        if len(fitted) >= len(listed) and not any(sizes):
            break  # no party takes any more
        cut: list[int] = []
        for size in sizes:
            cut.append(min(size, available))
            available -= cut[-1]
        fitted.append(tuple(cut))
    return fitted


def assign_relations(
    relations: Sequence[str], totals: Sequence[int], split: Split
) -> tuple[list[int], list[Pieces]]:
    """Assign each request to a party, by its relation.

    Args:
        relations: The relation of each request of the source, in its order.
        totals: What each party takes in all; one that takes nothing is left out.
        split: ``relation`` or ``dirichlet``.

    Returns:
        The order in which requests are taken, and for each party the places in it that
        are its own, a list a relation.
    """
    if split.name == "relation":
        order = list(range(len(relations)))
        return order, assign_whole_relations(group(relations), totals)
    draw = np.random.default_rng((split.seed, SPLIT_STREAM))
    order = draw.permutation(len(relations)).tolist()
    groups = group([relations[place] for place in order])
    return order, draw_shares(groups, totals, split.alpha, draw)


def group(relations: Sequence[str]) -> Pieces:
    """Group the indices by relation, in the order of first appearance."""
    found: dict[str, list[int]] = {}
    for place, relation in enumerate(relations):
        found.setdefault(relation, []).append(place)
    return list(found.values())


def assign_whole_relations(groups: Pieces, totals: Sequence[int]) -> list[Pieces]:
    """Assign whole relations to parties, by room or by fit.

    Of these the way that leaves fewer parties without a relation, or else the one that
    breaks fewer relations once parties take their totals (`move_spare`), or
    else by room. The fewest breaks of all are a packing problem that this may miss.
    """
    ways = (assign_by_room(groups, totals), assign_by_fit(groups, totals))

    def rank(owned: list[Pieces]) -> tuple[int, int]:
        empty = sum(not own for own in owned)
        return empty, count_breaks(groups, *move_spare(owned, totals))

    return min(ways, key=rank)


def assign_by_room(groups: Pieces, totals: Sequence[int]) -> list[Pieces]:
    """Assign the largest relation to the party with most room left, and so on.

    Room is a party's total less what it was given. Of equal relations the one that
    appears first comes first, and of equal parties the first.
    """
    owned: list[Pieces] = [[] for _ in totals]
    room = {party: total for party, total in enumerate(totals) if total}
    for members in sorted(groups, key=len, reverse=True) if room else ():
        party = max(room, key=lambda each: room[each])
        room[party] -= len(members)
        owned[party].append(members)
    return owned


def assign_by_fit(groups: Pieces, totals: Sequence[int]) -> list[Pieces]:
    """Assign to each party relations whose sum comes closest to its total from below.

    Parties with small totals choose first, and the largest one has what is left. Of
    equal choices it is the one with the larger relations.
    """
    owned: list[Pieces] = [[] for _ in totals]
    present = [party for party, total in enumerate(totals) if total]
    rest = sorted(groups, key=len, reverse=True)
    order = sorted(present, key=lambda party: totals[party])
    for party in order[:-1]:
        chosen = set(fit([len(members) for members in rest], totals[party]))
        owned[party] = [rest[place] for place in sorted(chosen)]
        rest = [each for place, each in enumerate(rest) if place not in chosen]
    for party in order[-1:]:
        owned[party] = rest
    return owned


def fit(sizes: Sequence[int], total: int) -> Iterator[int]:
    """Choose the positions of sizes whose sum is as close to a total as possible."""
    # Bit s is set if some of the first sizes add up to s.
    reached = [1]
    for size in sizes:
        within = (1 << (total + 1)) - 1
        reached.append((reached[-1] | reached[-1] << size) & within)
    left = reached[-1].bit_length() - 1
    for place in reversed(range(len(sizes))):
        if not reached[place] >> left & 1:
            left -= sizes[place]
            yield place


def count_breaks(
    groups: Pieces, kept: Sequence[Pieces], given: Sequence[Sequence[int]]
) -> int:
    """Count for each relation the parties that have it, less one."""
    relation = {place: number for number, own in enumerate(groups) for place in own}
    owners = [
        {relation[place] for place in chain(*own, more)}
        for own, more in zip(kept, given, strict=True)
    ]
    return sum(map(len, owners)) - len(set().union(*owners))


def draw_shares(
    groups: Pieces, totals: Sequence[int], alpha: float, draw: np.random.Generator
) -> list[Pieces]:
    """Draw each party's share of each relation: ``p ~ Dir(alpha · m · b)``.

    Of ``m`` parties, ``b`` is each one's part of the sum of totals. Where they are
    equal it is ``1 / m``, and the draw is ``Dir(alpha)`` as Yurochkin et al. have it
    (arXiv 1905.12022). A relation of ``n`` requests is cut at ``p₁ n``, ``(p₁ + p₂) n``
    and so on, rounded, so that no share is off by more than one request.
    """
    owned: list[Pieces] = [[] for _ in totals]
    present = [party for party, total in enumerate(totals) if total]
    if not present:
        return owned
    base = np.array([totals[party] for party in present], dtype=np.float64)
    base *= len(present) / base.sum()
    for members in groups:
        shares = draw.dirichlet(alpha * base)
        cuts = np.rint(np.cumsum(shares[:-1]) * len(members)).astype(int).tolist()
        ends = pairwise([0, *cuts, len(members)])
        for party, (start, end) in zip(present, ends, strict=True):
            if end > start:
                owned[party].append(members[start:end])
    return owned


def move_spare(
    owned: Sequence[Pieces], totals: Sequence[int]
) -> tuple[list[Pieces], Pieces]:
    """Move requests from parties with a surplus to parties with a lack.

    Each move is as large as can be, from the end of one relation of one party. So only
    as many requests move as must. Of ``m`` parties, at most ``m - 1`` moves break what
    was in one piece: such a move ends one party's lack or one party's surplus, and the
    last one both or leaves a surplus.

    Args:
        owned: What is each party's, a list a relation; no fewer than all take.
        totals: How many each party takes.

    Returns:
        What each party keeps, and what it is given, in the order of the moves.
    """
    kept = [[list(piece) for piece in pieces] for pieces in owned]
    given: Pieces = [[] for _ in totals]
    by_size = [group_by_size(own) for own in kept]
    spare = [
        sum(map(len, own)) - total for own, total in zip(owned, totals, strict=True)
    ]
    for party in [party for party, more in enumerate(spare) if more < 0]:
        while spare[party] < 0:
            count, giver, size = find_move(by_size, spare, -spare[party])
            piece = by_size[giver][size].popleft()
            if not by_size[giver][size]:
                del by_size[giver][size]
            given[party] += piece[-count:]
            del piece[-count:]
            if piece:
                by_size[giver].setdefault(len(piece), deque()).append(piece)
            spare[giver] -= count
            spare[party] += count
    return kept, given


def group_by_size(pieces: Pieces) -> BySize:
    """Group pieces by their number of requests."""
    found: BySize = {}
    for piece in pieces:
        found.setdefault(len(piece), deque()).append(piece)
    return found


def find_move(
    by_size: Sequence[BySize], spare: Sequence[int], lack: int
) -> tuple[int, int, int]:
    """Find the largest move: how many, from whom, and from a piece of which size.

    Of equal moves it is the first that moves a whole piece, or else the first.
    """
    moves = []
    for giver, sizes_of_giver in enumerate(by_size):
        most = min(lack, spare[giver])
        if most > 0:
            size = most if most in sizes_of_giver else max(sizes_of_giver)
            moves.append((min(most, size), size <= most, giver, size))
    count, _, giver, size = max(moves, key=lambda move: move[:2])
    return count, giver, size
