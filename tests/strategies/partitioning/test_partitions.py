"""One source is shared out whole: each request to one party, in one round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.requests.edit_request import EditRequest, RequestError
from strategies.partitioning.partitions import (
    check_supply,
    order_requests,
    share_requests,
)
from strategies.partitioning.planting import Planting
from strategies.partitioning.settings import PartiesConfig, RequestsConfig
from strategies.partitioning.splits import Split, SplitName, partition


def pool_of(count: int, subjects: int | None = None) -> list[EditRequest]:
    """Make requests on so many subjects, in turn."""
    return [
        EditRequest(
            case_id=number,
            prompt="{} is",
            subject=f"subject {number % (subjects or count)}",
            target_new="new",
        )
        for number in range(count)
    ]


@given(
    listed=st.integers(1, 5).flatmap(
        lambda count: st.lists(
            st.lists(st.integers(0, 4), min_size=count, max_size=count),
            min_size=1,
            max_size=3,
        )
    ),
    rounds=st.integers(1, 4),
)
def test_rounds_and_parties_take_consecutive_requests_and_cover_the_source(
    listed: list[list[int]], rounds: int
) -> None:
    """Round after round, each with its own sizes, and party after party."""
    parties = PartiesConfig(
        count=len(listed[0]),
        requests_per_round=tuple(map(tuple, listed)),
        allow_empty=True,
    )
    in_rounds = [*listed, *[listed[-1]] * rounds][:rounds]
    pool = pool_of(sum(map(sum, in_rounds)))
    taken = []
    shares = share_requests(pool, parties, 0)
    for number, sizes in enumerate(in_rounds, start=1):
        per_party = shares.in_round(number)
        assert [len(party_requests.requests) for party_requests in per_party] == sizes
        taken += [
            request
            for party_requests in per_party
            for request in party_requests.requests
        ]
    assert taken == pool


def test_a_shuffled_source_is_another_order_of_the_same_requests() -> None:
    """The seed decides, and the limit comes first."""
    pool = pool_of(20)
    config = RequestsConfig(limit=12, seed=3)
    ordered = order_requests(pool, config, "shuffled", draw=False)
    assert ordered != pool[:12]
    assert sorted(r.case_id for r in ordered) == list(range(12))
    assert ordered == order_requests(pool, config, "shuffled", draw=False)
    other = order_requests(
        pool, RequestsConfig(limit=12, seed=4), "shuffled", draw=False
    )
    assert other != ordered
    assert order_requests(pool, config, "contiguous", draw=False) == pool[:12]


def test_a_pool_is_drawn_from_with_distinct_subjects() -> None:
    """Two requests on one subject have one key and ask for two residuals."""
    pool = pool_of(20, subjects=8)
    drawn = order_requests(pool, RequestsConfig(seed=1), "contiguous", draw=True)
    assert len({request.subject for request in drawn}) == len(drawn) == 8
    few = order_requests(pool, RequestsConfig(seed=1, limit=5), "contiguous", draw=True)
    assert few == drawn[:5]


def test_too_few_requests_are_refused_unless_parties_may_be_empty() -> None:
    """The error says how many there are and how many would be taken."""
    strict = PartiesConfig(count=3, requests_per_round=2)
    check_supply(12, strict, 2, "some.json")
    with pytest.raises(
        RequestError, match=r"12 requests in 2 round.*`some.json` gives 11\."
    ):
        check_supply(11, strict, 2, "some.json")
    with pytest.raises(RequestError, match=r"`embedded` gives 11, each subject once\."):
        check_supply(11, strict, 2, "embedded")
    growing = PartiesConfig(count=2, requests_per_round=((1, 2), (4, 5)))
    check_supply(21, growing, 3, "some.json")
    with pytest.raises(RequestError, match=r"21 requests in 3 round.*gives 20\."):
        check_supply(20, growing, 3, "some.json")
    lenient = PartiesConfig(count=3, requests_per_round=2, allow_empty=True)
    check_supply(0, lenient, 2, "some.json")
    per_party = share_requests(pool_of(3), lenient, 0).in_round(1)
    assert [len(party_requests.requests) for party_requests in per_party] == [2, 1, 0]


@given(
    listed=st.lists(
        st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=3
    ),
    rounds=st.integers(1, 5),
)
def test_the_supply_must_last_for_the_sizes_of_all_rounds(
    listed: list[list[int]], rounds: int
) -> None:
    """The last listed sizes are those of all later rounds."""
    sizes = tuple(tuple(each) for each in listed)
    lenient = PartiesConfig(count=2, requests_per_round=sizes, allow_empty=True)
    parties = lenient.model_copy(update={"allow_empty": False})
    wanted = sum(sum(parties.sizes_of(number + 1)) for number in range(rounds))
    check_supply(wanted, parties, rounds, "some.json")
    if wanted:
        with pytest.raises(RequestError, match=f"take {wanted} requests"):
            check_supply(wanted - 1, parties, rounds, "some.json")


@pytest.mark.parametrize("split", ["relation", "dirichlet"])
def test_the_settings_reach_the_split_and_what_is_planted(split: SplitName) -> None:
    """The run's seed of requests draws both."""
    pool = [
        request.model_copy(
            update={"relation_id": f"P{number % 4}", "target_new": f"new {number}"}
        )
        for number, request in enumerate(pool_of(40))
    ]
    parties = PartiesConfig(
        count=4,
        requests_per_round=5,
        split=split,
        alpha=1e-6,
        overlap=2,
        planted_conflicts=0.2,
    )
    shares = share_requests(pool, parties, 3)
    relations = [f"P{number % 4}" for number in range(40)]
    assert shares.rounds == partition(relations, [[5] * 4], Split(split, 1e-6, 3))
    assert shares.planting == Planting(2, 0.2, 3)
    for party_requests in shares.in_round(1):
        counts = (
            len(party_requests.own),
            len(party_requests.copies),
            len(party_requests.contradictions),
        )
        assert counts == (5, 2, 1)
        if split == "relation":
            assert len({request.relation_id for request in party_requests.own}) == 1
