"""Splits: disjoint, of the sizes asked for, and the same wherever they are made."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import chain, compress, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.requests.edit_request import EditRequest
from strategies.partitioning.splits import (
    Round,
    Split,
    SplitName,
    assign_by_fit,
    assign_by_room,
    assign_relations,
    count_breaks,
    draw_shares,
    fit,
    fit_sizes,
    group,
    move_spare,
    partition,
    partition_whole,
    relation_of,
)
from tests.trees import ROOT

NAMES: tuple[SplitName, ...] = ("contiguous", "shuffled", "relation", "dirichlet")
BY_RELATION = NAMES[2:]
NEARLY_EVERYTHING, NEARLY_NOTHING = 1e6, 1e-6

SPLITS = st.builds(
    Split,
    name=st.sampled_from(NAMES),
    alpha=st.sampled_from([NEARLY_NOTHING, 0.1, 1.0, NEARLY_EVERYTHING]),
    seed=st.integers(0, 2**32),
)
RELATIONS = st.lists(st.sampled_from("abcdefgh"), max_size=60)
SIZES = st.integers(1, 5).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(0, 6), min_size=count, max_size=count),
        min_size=1,
        max_size=3,
    )
)


def places_of(rounds: Sequence[Round], party: int) -> list[int]:
    """All that a party takes, in order."""
    return [place for places in rounds for place in places[party]]


def homes_of(
    relations: Sequence[str], totals: Sequence[int], split: Split
) -> list[set[int]]:
    """Which places of the source are whose before anything is moved."""
    order, owned = assign_relations(relations, totals, split)
    return [{order[each] for each in chain(*own)} for own in owned]


@given(relations=RELATIONS, listed=SIZES, split=SPLITS)
def test_parties_are_disjoint_and_take_what_they_ask_for(
    relations: list[str], listed: list[list[int]], split: Split
) -> None:
    """Round by round, as long as the source lasts; nothing is taken twice."""
    rounds = partition(relations, listed, split)
    taken = [place for places in rounds for place in chain(*places)]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(len(relations)))
    left = len(relations)
    for number, places in enumerate(rounds):
        sizes = listed[min(number, len(listed) - 1)]
        for own, size in zip(places, sizes, strict=True):
            assert len(own) == min(size, left)
            left -= len(own)
    assert left == 0 or not any(listed[-1])


@given(listed=SIZES, available=st.integers(0, 40), more=st.integers(0, 20))
def test_a_longer_source_serves_the_same_rounds_and_more(
    listed: list[list[int]], available: int, more: int
) -> None:
    """Only the last round of the shorter one may be short."""
    short, long = fit_sizes(listed, available), fit_sizes(listed, available + more)
    assert short[:-1] == long[: max(0, len(short) - 1)]
    assert sum(map(sum, short)) <= available


@given(relations=RELATIONS, parties=st.integers(1, 6), split=SPLITS)
def test_all_of_a_source_is_partitioned_once(
    relations: list[str], parties: int, split: Split
) -> None:
    """And `relation` breaks none, whatever sizes come out."""
    per_party = partition_whole(relations, parties, split)
    assert len(per_party) == parties
    assert sorted(chain(*per_party)) == list(range(len(relations)))
    if split.in_turn:
        assert list(chain(*per_party)) == list(range(len(relations)))
        assert max(map(len, per_party)) - min(map(len, per_party)) <= 1
    if split.name == "relation":
        owners = [{relations[place] for place in own} for own in per_party]
        assert sum(map(len, owners)) == len(set(relations))


@given(relations=RELATIONS, listed=SIZES, split=SPLITS)
def test_a_split_is_a_function_of_what_it_is_given(
    relations: list[str], listed: list[list[int]], split: Split
) -> None:
    """And knows relations only apart: other names for them change nothing."""
    rounds = partition(relations, listed, split)
    assert partition(list(relations), [tuple(each) for each in listed], split) == rounds
    renamed = [f"{ord(each) * 7919 % 1000}" for each in relations]
    assert partition(renamed, listed, split) == rounds


def test_hash_seeds_change_nothing() -> None:
    """Every node computes the split by itself, in a process of its own."""
    code = (
        "from strategies.partitioning.splits import Split, partition\n"
        "relations = [f'r{n * n % 7}' for n in range(60)]\n"
        "for name in ('relation', 'dirichlet'):\n"
        "    print(partition(relations, [[5, 3, 2]], Split(name, 0.3, 5)))\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    relations = [f"r{n * n % 7}" for n in range(60)]
    here = [partition(relations, [[5, 3, 2]], Split(n, 0.3, 5)) for n in BY_RELATION]
    assert answers == {"".join(f"{rounds}\n" for rounds in here)}


def test_seeds_draw_dirichlet_and_nothing_else() -> None:
    """The clients shuffle before they partition."""
    relations = [f"{n % 5}" for n in range(50)]
    for name in NAMES:
        partitions = {
            partition(relations, [[4, 4]], Split(name, 1.0, seed)) for seed in range(9)
        }
        assert len(partitions) == (9 if name == "dirichlet" else 1)


@given(relations=RELATIONS, listed=SIZES, split=SPLITS)
def test_a_party_takes_its_own_before_anything_else(
    relations: list[str], listed: list[list[int]], split: Split
) -> None:
    """So a relation is in one party only, as long as that is enough for everybody."""
    rounds = partition(relations, listed, split)
    totals = [sum(map(len, own)) for own in zip(*rounds, strict=True)]
    if split.in_turn or not totals:
        return
    for party, own in enumerate(homes_of(relations, totals, split)):
        taken = places_of(rounds, party)
        assert set(taken[: len(own)]) <= own
        assert len(set(taken) & own) == min(len(taken), len(own))


@given(relations=RELATIONS, listed=SIZES, split=SPLITS)
def test_as_few_requests_and_pieces_move_as_must(
    relations: list[str], listed: list[list[int]], split: Split
) -> None:
    """Of ``m`` parties at most ``m − 1`` moves leave the rest of a piece after."""
    totals = [sum(own) for own in zip(*fit_sizes(listed, len(relations)), strict=True)]
    if split.in_turn or not totals:
        return
    _, owned = assign_relations(relations, totals, split)
    kept, given_to = move_spare(owned, totals)
    lacks = [
        max(0, total - sum(map(len, own)))
        for own, total in zip(owned, totals, strict=True)
    ]
    assert list(map(len, given_to)) == lacks
    before = [len(piece) for own in owned for piece in own]
    after = [len(piece) for own in kept for piece in own]
    assert sum(before) == sum(after) + sum(lacks)
    broken = sum(0 < new < old for old, new in zip(before, after, strict=True))
    assert broken <= len(totals) - 1


@given(relations=RELATIONS, listed=SIZES)
def test_relations_are_broken_less_often_than_there_are_parties(
    relations: list[str], listed: list[list[int]]
) -> None:
    """Each further party that a relation is in is a break."""
    rounds = partition(relations, listed, Split("relation"))
    places = (
        [places_of(rounds, party) for party in range(len(listed[0]))] if rounds else []
    )
    owners = [{relations[place] for place in own} for own in places]
    breaks = sum(map(len, owners)) - len(set().union(*owners))
    assert breaks <= max(0, len(listed[0]) - 1)


def test_the_largest_relation_goes_where_most_room_is() -> None:
    """Worked by hand: rooms 6 and 6, then 1 and 6, 1 and 2, 1 and −1, 0 and −1."""
    groups = group(list("aaaaabbbbcccd"))
    assert [len(each) for each in groups] == [5, 4, 3, 1]
    assert assign_by_room(groups, [6, 0, 6]) == [
        [[0, 1, 2, 3, 4], [12]],
        [],
        [[5, 6, 7, 8], [9, 10, 11]],
    ]


def test_what_is_lacking_comes_from_the_end_of_what_others_can_spare() -> None:
    """Worked by hand: the first takes 6 and owns 5, the second takes 7 and owns 8."""
    groups = group(list("aaaaabbbbcccd"))
    kept, given = move_spare([[groups[1], groups[3]], [groups[0], groups[2]]], [6, 7])
    assert kept == [[[5, 6, 7, 8], [12]], [[0, 1, 2, 3], [9, 10, 11]]]
    assert given == [[4], []]
    assert count_breaks(groups, kept, given) == 1


@given(sizes=st.lists(st.integers(1, 9), max_size=7), total=st.integers(0, 40))
def test_no_other_choice_comes_nearer_from_below(sizes: list[int], total: int) -> None:
    """Of all subsets."""
    subsets = product([False, True], repeat=len(sizes))
    sums = [sum(compress(sizes, chosen)) for chosen in subsets]
    places = list(fit(sizes, total))
    assert len(set(places)) == len(places)
    best = max(each for each in sums if each <= total)
    assert sum(sizes[place] for place in places) == best


@given(sizes=st.lists(st.integers(1, 6), min_size=2, max_size=6), data=st.data())
def test_two_parties_break_a_relation_only_if_they_must(
    sizes: list[int], data: st.DataObject
) -> None:
    """By trying all ways to give whole relations to the first of them."""
    relations = [f"{n}" for n, size in enumerate(sizes) for _ in range(size)]
    first = data.draw(st.integers(1, len(relations) - 1))
    (places,) = partition(
        relations, [[first, len(relations) - first]], Split("relation")
    )
    one, other = ({relations[place] for place in own} for own in places)
    subsets = product([False, True], repeat=len(sizes))
    whole = any(sum(compress(sizes, chosen)) == first for chosen in subsets)
    assert len(one & other) == (0 if whole else 1)


def test_each_party_has_a_relation_of_its_own_where_there_are_enough() -> None:
    """Though one relation is most of the source; only who lacks some takes of it."""
    relations = ["a"] * 90 + list("bcd") * 2
    rounds = partition(relations, [[2, 2, 2, 2]], Split("relation"))
    owners = [{relations[place] for place in own} for own in rounds[0]]
    assert sorted(map(sorted, owners)) == [["a"], ["b"], ["c"], ["d"]]


@given(
    sizes=st.lists(st.integers(0, 9), max_size=6),
    totals=st.lists(st.integers(0, 9), min_size=1, max_size=4),
)
def test_both_ways_give_every_relation_once(
    sizes: list[int], totals: list[int]
) -> None:
    """Whole, and to parties that take something; to nobody if nobody does."""
    groups = group([f"{n}" for n, size in enumerate(sizes) for _ in range(size)])
    for give in (assign_by_room, assign_by_fit):
        owned = give(groups, totals)
        assert [own for own, total in zip(owned, totals, strict=True) if not total] == (
            [[]] * totals.count(0)
        )
        assert sorted(chain(*owned)) == (groups if any(totals) else [])


def test_one_relation_must_be_broken_once_for_each_further_party() -> None:
    """Nothing does better than the bound here."""
    rounds = partition(["a"] * 12, [[3, 3, 3, 3]], Split("relation"))
    assert sorted(chain(*rounds[0])) == list(range(12))
    assert [len(own) for own in rounds[0]] == [3, 3, 3, 3]


@pytest.mark.parametrize("seed", range(5))
def test_much_concentration_is_nearly_uniform(seed: int) -> None:
    """Each party has its part of each relation, give or take one request.

    With ``alpha = 10⁶`` and four parties a share's standard deviation is 2 · 10⁻⁴, or
    0.02 of 100 requests; a cut is rounded at both ends.
    """
    relations = [f"{n % 7}" for n in range(700)]
    per_party = partition_whole(
        relations, 4, Split("dirichlet", NEARLY_EVERYTHING, seed)
    )
    for own in per_party:
        counts = Counter(relations[place] for place in own)
        assert all(abs(counts[each] - 25) <= 1 for each in set(relations))


@pytest.mark.parametrize("seed", range(5))
def test_little_concentration_gives_each_relation_to_one_party(seed: int) -> None:
    """As `relation` does, but to any party."""
    relations = [f"{n % 30}" for n in range(600)]
    per_party = partition_whole(relations, 4, Split("dirichlet", NEARLY_NOTHING, seed))
    assert sum(len({relations[place] for place in own}) for own in per_party) == 30
    with_sizes = partition(relations, [[5, 5, 5, 5]], Split("dirichlet", 1e-6, seed))
    assert all(len(each) == 4 for each in with_sizes)


Float64 = np.ndarray[tuple[int, int], np.dtype[np.float64]]

STATISTICAL = 0.03
"""How far a mean over 4000 relations may be from what is expected.

A number in [0, 1] has a standard deviation of at most 0.5, and the mean of so many one
of at most 0.008: three of these, and 0.005 for rounding to one of 200 requests.
"""


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 10.0])
def test_shares_are_dirichlet_s(alpha: float) -> None:
    """``E Σ p² = (α + 1) / (m α + 1)`` for ``m`` parties that take the same."""
    shares = draw_many(alpha, [1, 1, 1, 1])
    expected = (alpha + 1) / (4 * alpha + 1)
    assert abs((shares**2).sum(axis=1).mean() - expected) < STATISTICAL
    assert np.abs(shares.mean(axis=0) - 1 / 4).max() < STATISTICAL


def test_who_takes_more_is_given_more() -> None:
    """Mean shares are parts of the sum of totals, and who takes nothing has none."""
    shares = draw_many(0.5, [10, 0, 20, 10])
    expected = np.array([0.25, 0.0, 0.5, 0.25])
    assert np.abs(shares.mean(axis=0) - expected).max() < STATISTICAL
    assert shares[:, 1].max() == 0


def draw_many(alpha: float, totals: Sequence[int]) -> Float64:
    """Draw the shares of 4000 relations of 200 requests."""
    groups = [list(range(200 * each, 200 * (each + 1))) for each in range(4000)]
    owned = draw_shares(groups, totals, alpha, np.random.default_rng(0))
    counts = np.zeros((4000, len(totals)))
    for party, own in enumerate(owned):
        for piece in own:
            counts[piece[0] // 200, party] = len(piece)
    return counts / 200


def test_a_relation_is_named_by_its_id_or_else_by_its_prompt() -> None:
    """In CounterFact, one goes with the other."""
    request = EditRequest(case_id=0, prompt="{} is", subject="A", target_new="B")
    assert relation_of(request) == "{} is"
    assert relation_of(request.model_copy(update={"relation_id": "P1"})) == "P1"
