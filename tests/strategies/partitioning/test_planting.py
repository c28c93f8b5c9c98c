"""Planted requests are another party's, said again or against, and nothing else."""

from collections.abc import Sequence
from itertools import chain, groupby

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from editing.requests.edit_request import EditRequest, RequestError
from editing.requests.normalise import normalise
from strategies.partitioning.planting import (
    Amount,
    PartyRequests,
    Planting,
    Shares,
    next_parties,
    objects_by_relation,
    other_objects,
    planted_number,
    planted_sizes,
)
from strategies.partitioning.splits import Indices, Split, partition, relation_of

FACTS = {"P1": "Acme Lima North", "P2": "harp viola drum", "P3": "Oslo Rome Bonn"}


def pool_of(count: int) -> list[EditRequest]:
    """Make requests of three relations, each with three objects; numbers leave gaps."""
    found = []
    for number in range(count):
        relation = f"P{1 + number % 3}"
        objects = FACTS[relation].split()
        found.append(
            EditRequest(
                case_id=3 * number,
                prompt=f"{{}} {relation}",
                subject=f"subject {number}",
                target_new=objects[number // 3 % 3],
                target_true=objects[(number // 3 + 1) % 3],
                relation_id=relation,
                neighborhood_prompts=("a neighbour is",),
            )
        )
    return found


POOL = pool_of(60)
AMOUNTS = st.sampled_from([0, 1, 2, 0.25, 0.5])
SIZES = st.integers(2, 5).flatmap(
    lambda count: st.lists(
        st.lists(st.sampled_from([0, 4, 5, 7]), min_size=count, max_size=count),
        min_size=1,
        max_size=2,
    )
)
PLANTINGS = st.builds(
    Planting, overlap=AMOUNTS, conflicts=AMOUNTS, seed=st.integers(0, 99)
)


def share(listed: Sequence[Sequence[int]], planting: Planting) -> Shares:
    """Share the pool out as it comes."""
    relations = [relation_of(request) for request in POOL]
    return Shares(POOL, len(listed[0]), partition(relations, listed, Split()), planting)


def unnumbered(request: EditRequest) -> EditRequest:
    """Forget its number."""
    return request.model_copy(update={"case_id": 0})


def fact_of(request: EditRequest) -> tuple[str, str]:
    """Say what it is about."""
    return request.subject, request.prompt


@given(listed=SIZES, planting=PLANTINGS)
def test_copies_are_the_previous_party_s_word_for_word(
    listed: list[list[int]], planting: Planting
) -> None:
    """As many as were asked for, if it has so many that are not contradicted."""
    shares = share(listed, planting)
    for number in range(1, len(shares.rounds) + 1):
        per_party = shares.in_round(number)
        sizes = [len(party_requests.own) for party_requests in per_party]
        for giver, taker in next_parties(sizes).items():
            copies = [unnumbered(each) for each in per_party[taker].copies]
            own = [unnumbered(each) for each in per_party[giver].own]
            assert all(each in own for each in copies)
            assert len({each.subject for each in copies}) == len(copies)
            left = sizes[giver] - len(per_party[taker].contradictions)
            wanted = planted_number(planting.overlap, sizes[giver])
            assert len(copies) == min(wanted, left)


@given(listed=SIZES, planting=PLANTINGS)
def test_contradictions_ask_for_another_object_that_the_relation_has(
    listed: list[list[int]], planting: Planting
) -> None:
    """Neither what was asked for nor what is true; all else stays as it is."""
    shares = share(listed, planting)
    for number in range(1, len(shares.rounds) + 1):
        per_party = shares.in_round(number)
        sizes = [len(party_requests.own) for party_requests in per_party]
        for giver, taker in next_parties(sizes).items():
            asked = {fact_of(each): each for each in per_party[giver].own}
            contradictions = per_party[taker].contradictions
            wanted = planted_number(planting.conflicts, sizes[giver])
            assert len(contradictions) == min(wanted, sizes[giver])
            for contradiction in contradictions:
                first = asked[fact_of(contradiction)]
                assert contradiction.target_new in FACTS[relation_of(first)].split()
                assert contradiction.target_new not in {
                    first.target_new,
                    first.target_true,
                }
                same = {
                    "target_new": contradiction.target_new,
                    "case_id": contradiction.case_id,
                }
                assert first.model_copy(update=same) == contradiction
            copied = {fact_of(each) for each in per_party[taker].copies}
            assert not copied & {fact_of(each) for each in contradictions}


@given(listed=SIZES, planting=PLANTINGS)
def test_planting_leaves_the_parties_own_requests_as_they_are(
    listed: list[list[int]], planting: Planting
) -> None:
    """A run with planted requests differs from one without in these alone."""
    planted, plain = share(listed, planting), share(listed, Planting())
    numbers: list[int] = []
    for number in range(1, len(plain.rounds) + 2):
        per_party = planted.in_round(number)
        bare = plain.in_round(number)
        assert [party_requests.own for party_requests in per_party] == [
            party_requests.requests for party_requests in bare
        ]
        numbers += [
            each.case_id
            for party_requests in per_party
            for each in party_requests.requests
        ]
        for party_requests in per_party:
            assert (
                party_requests.requests
                == party_requests.own
                + party_requests.copies
                + party_requests.contradictions
            )
            for each in party_requests.copies + party_requests.contradictions:
                assert each.case_id > max(request.case_id for request in POOL)
    assert len(set(numbers)) == len(numbers)


@given(listed=SIZES, planting=PLANTINGS)
def test_a_round_is_the_same_whichever_were_looked_at_before(
    listed: list[list[int]], planting: Planting
) -> None:
    """Every node computes the rounds that it needs."""
    one, other = share(listed, planting), share(listed, planting)
    numbers = range(1, len(one.rounds) + 1)
    backwards = [other.in_round(number) for number in reversed(numbers)]
    assert [one.in_round(number) for number in numbers] == backwards[::-1]


def test_a_round_is_shared_out_once_for_all_who_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the work of a round would grow with the square of the parties."""
    plant, givers = Shares._plant, []

    def counted(
        shares: Shares, places: Indices, draw: np.random.Generator
    ) -> PartyRequests:
        givers.append(places)
        return plant(shares, places, draw)

    monkeypatch.setattr(Shares, "_plant", counted)
    shares = share([[4, 5, 7]], Planting(overlap=1))
    assert len({shares.in_round(1) for _ in range(3)}) == 1
    assert len(givers) == 3


@given(listed=SIZES, overlap=AMOUNTS, conflicts=AMOUNTS)
def test_what_is_planted_is_known_from_sizes_alone(
    listed: list[list[int]], overlap: Amount, conflicts: Amount
) -> None:
    """A node with a file of its own must know how much of it is a round's."""
    shares = share(listed, Planting(overlap, conflicts, 1))
    for number, places in enumerate(shares.rounds, start=1):
        per_party = shares.in_round(number)
        sizes = planted_sizes([len(own) for own in places], overlap, conflicts)
        assert sizes == tuple(
            len(party_requests.copies + party_requests.contradictions)
            for party_requests in per_party
        )


@given(sizes=st.lists(st.integers(0, 2), min_size=1, max_size=7))
def test_the_next_party_is_the_next_that_is_there(sizes: list[int]) -> None:
    """All that have requests stand in one circle, and a circle of one has no next."""
    present = [party for party, size in enumerate(sizes) if size]
    following = next_parties(sizes)
    assume(len(present) != 1)
    assert sorted(following) == sorted(following.values()) == present
    for giver, taker in following.items():
        between = range(giver + 1, taker) if taker > giver else ()
        assert not any(sizes[each] for each in between)


def test_a_party_that_is_alone_or_away_is_given_nothing() -> None:
    """Who has left must not come back for a planted request."""
    planting = Planting(overlap=2, conflicts=1)
    per_party = share([[4, 0, 4], [0, 4, 0]], planting).in_round(1)
    assert [len(party_requests.requests) for party_requests in per_party] == [7, 0, 7]
    per_party = share([[4, 0, 4], [0, 4, 0]], planting).in_round(2)
    assert [len(party_requests.requests) for party_requests in per_party] == [0, 4, 0]


def test_seeds_draw_what_is_planted() -> None:
    """Other requests, and other objects for one."""
    for planting in (Planting(overlap=2), Planting(conflicts=2)):
        found = {
            tuple(
                (each.subject, each.target_new)
                for party_requests in share(
                    [[7, 7]], Planting(planting.overlap, planting.conflicts, seed)
                ).in_round(1)
                for each in party_requests.copies + party_requests.contradictions
            )
            for seed in range(8)
        }
        assert len(found) > 4


def test_more_copies_are_those_of_fewer_and_others() -> None:
    """A study of how much parties overlap changes nothing else."""
    few, more = (share([[7, 7]], Planting(overlap=k)).in_round(1) for k in (2, 5))
    for party_requests, larger in zip(few, more, strict=True):
        assert larger.copies[:2] == party_requests.copies


@given(size=st.integers(1, 200), hundredths=st.integers(0, 100))
def test_a_share_is_exact_in_the_decimals_that_were_written(
    size: int, hundredths: int
) -> None:
    """0.29 of 100 requests are 29, though the nearest binary number is below it."""
    assert planted_number(hundredths / 100, size) == hundredths * size // 100
    assert planted_number(hundredths, size) == hundredths


def test_a_source_with_too_few_objects_is_refused() -> None:
    """The message says of whom and how many."""
    alike = [each.model_copy(update={"target_new": "Acme"}) for each in POOL[::3]]
    alike = [each.model_copy(update={"target_true": "acme."}) for each in alike]
    shares = Shares(alike, 2, partition(["P1"] * 20, [[5, 5]], Split()), Planting(0, 2))
    with pytest.raises(RequestError, match=r"2 requests of party 0 in round 1.* 0 of"):
        shares.in_round(1)


@given(count=st.integers(1, 20))
def test_objects_are_listed_once_in_each_spelling_s_sense(count: int) -> None:
    """All that requests of a relation name, and for each request the others."""
    pool = POOL[:count]
    spelled = [each.model_copy(update={"target_new": "ACME."}) for each in pool[:1]]
    objects = objects_by_relation([*pool, *spelled])
    by_relation = sorted(pool, key=relation_of)
    for relation, own in groupby(by_relation, key=relation_of):
        named = {
            normalise(text)
            for each in own
            for text in (each.target_new, each.target_true or "")
        }
        assert {*objects[relation]} == named
    for request in pool:
        own_two = {request.target_new, request.target_true}
        others = {*objects[relation_of(request)].values()} - own_two
        assert {*other_objects(request, objects)} == others


def test_rounds_beyond_the_source_are_empty() -> None:
    """For every party."""
    shares = share([[4, 0]], Planting(overlap=0.5))
    assert shares.in_round(99) == shares.in_round(100)
    assert [party_requests.requests for party_requests in shares.in_round(99)] == [
        (),
        (),
    ]
    assert (
        list(chain(*(party_requests.requests for party_requests in shares.in_round(1))))
        == POOL[:4]
    )


def test_rounds_and_parties_draw_by_themselves() -> None:
    """Which places are copied is not the same in all of them."""
    shares = share([[7, 7]], Planting(overlap=2))
    found = set()
    for number in range(1, 5):
        per_party = shares.in_round(number)
        for giver, taker in ((0, 1), (1, 0)):
            subjects = [each.subject for each in per_party[giver].own]
            copied = [subjects.index(each.subject) for each in per_party[taker].copies]
            found.add(tuple(copied))
    assert len(found) > 4
