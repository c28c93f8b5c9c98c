"""Laws of resolution: each policy from its definition, and no order of arrival."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from strategies.conflicts.policies import (
    POLICIES,
    Entry,
    PolicyName,
    RoundVerdict,
    check_ranking,
    resolve,
)

NOW = 3
"""The round that is evaluated; earlier ones are before it."""

NAMES = st.sampled_from(sorted(POLICIES))
RESOLVING = st.sampled_from(sorted(set(POLICIES) - {"none"}))
RANKINGS = st.lists(st.integers(0, 3), unique=True, max_size=4)


def entries(first: int, last: int) -> st.SearchStrategy[list[Entry]]:
    """Draw requests of these rounds; few facts and targets, so that they meet."""
    one = st.builds(
        Entry,
        round=st.integers(first, last),
        party=st.integers(0, 3),
        place=st.integers(0, 5),
        fact=st.sampled_from("fg"),
        target=st.sampled_from("abc"),
    )
    return st.lists(
        one, max_size=8, unique_by=lambda each: (each.round, each.party, each.place)
    )


EARLIER, NEW = entries(0, NOW - 1), entries(NOW, NOW)


def said(*words: tuple[int, str], at: int = NOW) -> list[Entry]:
    """Make requests on one fact from parties and targets, in the order given."""
    return [
        Entry(at, party, place, "f", target)
        for place, (party, target) in enumerate(words)
    ]


def winners(verdict: RoundVerdict) -> list[tuple[int, str]]:
    """Who is edited with what."""
    return [(entry.party, entry.target) for entry in verdict.kept]


def decide(
    policy: str,
    new: list[Entry],
    earlier: Sequence[Entry] = (),
    ranking: Sequence[int] = (),
) -> list[tuple[int, str]]:
    """Resolve without leaving out duplicates, and say who is edited with what."""
    verdict = resolve(earlier, new, policy, deduplicate=False, ranking=ranking)
    return winners(verdict)


def test_none_lets_every_request_stay() -> None:
    """However they contradict."""
    new = said((0, "a"), (1, "b"), (1, "a"))
    assert decide("none", new, said((2, "c"), at=0)) == [(0, "a"), (1, "b"), (1, "a")]


def test_first_is_first_come_first_served() -> None:
    """By party and place in one round; an earlier round was before them all."""
    new = said((1, "b"), (0, "a"), (2, "a"), (0, "c"))
    assert decide("first", new) == [(0, "a"), (2, "a")]
    old = said((3, "c"), at=1) + said((0, "b"), at=2)
    assert decide("first", new, old) == [(0, "c")]
    assert decide("first", said((0, "a")), said((3, "c"), at=1)) == []


def test_last_lets_later_words_override_earlier_ones() -> None:
    """The last in order of a round, and any later round."""
    new = said((1, "b"), (0, "b"), (1, "a"), (0, "a"), (2, "a"))
    assert decide("last", new) == [(0, "a"), (1, "a"), (2, "a")]
    assert decide("last", said((0, "b")), said((3, "a"), at=2)) == [(0, "b")]


def test_priority_follows_the_ranking() -> None:
    """The best party's last word; unlisted parties come after, in order of number."""
    new = said((0, "a"), (1, "b"), (2, "a"), (2, "c"), (3, "c"))
    assert decide("priority", new, ranking=[2, 1]) == [(2, "c"), (3, "c")]
    assert decide("priority", new, ranking=[1]) == [(1, "b")]
    assert decide("priority", new, ranking=[7]) == [(0, "a"), (2, "a")]


def test_priority_holds_over_the_rounds() -> None:
    """A better party's earlier edit stands; an equal's and a worse one's does not."""
    old = said((1, "a"), at=0)
    assert decide("priority", said((2, "b")), old, ranking=[1, 2]) == []
    assert decide("priority", said((2, "b")), old, ranking=[2, 1]) == [(2, "b")]
    assert decide("priority", said((1, "b")), old, ranking=[1, 2]) == [(1, "b")]


def test_majority_counts_parties_and_not_requests() -> None:
    """Those of earlier rounds have their voice, too."""
    new = said((0, "a"), (0, "a"), (0, "a"), (1, "b"), (2, "b"))
    assert decide("majority", new) == [(1, "b"), (2, "b")]
    old = said((3, "a"), (4, "a"), at=1)
    assert decide("majority", new, old) == [(0, "a")] * 3
    assert decide("majority", said((0, "a"), (5, "b")), old) == [(0, "a")]


def test_a_tie_of_the_majority_goes_to_the_first() -> None:
    """First by round, party and place."""
    assert decide("majority", said((1, "b"), (0, "c"), (2, "a"))) == [(0, "c")]
    assert decide("majority", said((0, "b")), said((5, "a"), at=0)) == []


def test_drop_edits_nothing_that_is_in_conflict() -> None:
    """Neither side of it, and nothing against what was edited before."""
    elsewhere = Entry(NOW, 0, 9, "g", "a")
    new = [*said((0, "a"), (1, "b"), (2, "a")), elsewhere]
    assert decide("drop", new) == [(0, "a")]
    assert decide("drop", [elsewhere], said((1, "b"), at=0)) == [(0, "a")]
    assert decide("drop", said((0, "a")), said((1, "b"), at=0)) == []


def test_a_verdict_says_why() -> None:
    """One for each new request, in order."""
    new = said((0, "a"), (0, "b"), (1, "a"), (1, "b"))
    verdict = resolve([], reversed(new), "first", deduplicate=True)
    assert [each.entry for each in verdict.verdicts] == new
    reasons = [each.reason for each in verdict.verdicts]
    assert reasons == ["kept", "conflict", "duplicate", "conflict"]
    assert [each.kept for each in verdict.verdicts] == [True, False, False, False]


@given(earlier=EARLIER, new=NEW, name=NAMES, ranking=RANKINGS)
def test_conflicts_are_the_new_facts_with_two_targets(
    earlier: list[Entry], new: list[Entry], name: str, ranking: list[int]
) -> None:
    """Whatever the policy, with all who are involved."""
    verdict = resolve(earlier, new, name, deduplicate=True, ranking=ranking)
    wanted = {
        fact: sorted(each for each in earlier + new if each.fact == fact)
        for fact in {each.fact for each in new}
    }
    assert {each.fact: list(each.entries) for each in verdict.conflicts} == {
        fact: group
        for fact, group in wanted.items()
        if len({each.target for each in group}) > 1
    }


@given(earlier=EARLIER, new=NEW, name=NAMES, deduplicate=st.booleans())
def test_duplicates_are_equal_requests_of_one_round(
    earlier: list[Entry], new: list[Entry], name: str, deduplicate: bool
) -> None:
    """Whether or not they are left out, and whatever earlier rounds edited."""
    verdict = resolve(earlier, new, name, deduplicate=deduplicate)
    counts = Counter((each.fact, each.target) for each in new)
    found = {
        (each.fact, each.entries[0].target): len(each.entries)
        for each in verdict.duplicates
    }
    assert found == {asked: count for asked, count in counts.items() if count > 1}
    for each in verdict.duplicates:
        assert {(one.fact, one.target) for one in each.entries} <= counts.keys()
        assert set(each.entries) <= set(new)
        assert list(each.entries) == sorted(each.entries)


@given(earlier=EARLIER, new=NEW, name=NAMES, ranking=RANKINGS)
def test_deduplication_keeps_the_first_holder_of_what_stays(
    earlier: list[Entry], new: list[Entry], name: str, ranking: list[int]
) -> None:
    """No edit is lost by it and none is weighed twice; conflicts are as before."""
    plain = resolve(earlier, new, name, deduplicate=False, ranking=ranking)
    once = resolve(earlier, new, name, deduplicate=True, ranking=ranking)
    firsts: dict[tuple[str, str], Entry] = {}
    for entry in plain.kept:
        firsts.setdefault((entry.fact, entry.target), entry)
    assert list(once.kept) == list(firsts.values())
    assert "duplicate" not in {each.reason for each in plain.verdicts}
    for one, other in zip(plain.verdicts, once.verdicts, strict=True):
        assert (one.reason == "conflict") == (other.reason == "conflict")


def test_deduplication_repeats_what_an_earlier_round_edited() -> None:
    """To leave that out is another setting's business."""
    old = said((0, "a"), at=0)
    verdict = resolve(old, said((1, "a"), (2, "a")), "first", deduplicate=True)
    assert winners(verdict) == [(1, "a")]
    assert verdict.conflicts == ()


@given(new=NEW, name=NAMES, ranking=RANKINGS)
def test_without_conflicts_everything_is_edited(
    new: list[Entry], name: str, ranking: list[int]
) -> None:
    """Duplicates are no conflicts."""
    agreed = [replace(each, target=f"{each.fact} is") for each in new]
    verdict = resolve([], agreed, name, deduplicate=False, ranking=ranking)
    assert list(verdict.kept) == sorted(agreed)
    assert verdict.conflicts == ()


@given(earlier=EARLIER, new=NEW, name=RESOLVING, ranking=RANKINGS, data=st.data())
def test_no_round_edits_two_targets_of_one_fact(
    earlier: list[Entry],
    new: list[Entry],
    name: str,
    ranking: list[int],
    data: st.DataObject,
) -> None:
    """Nor can parties bring it about by sharing their requests out in another way."""
    parties = data.draw(st.permutations(range(len(new))))
    shared = [
        replace(entry, party=party) for entry, party in zip(new, parties, strict=True)
    ]
    for asked in (new, shared):
        verdict = resolve(earlier, asked, name, deduplicate=False, ranking=ranking)
        edited = {(each.fact, each.target) for each in verdict.kept}
        assert len(edited) == len({fact for fact, _ in edited})


@given(earlier=EARLIER, new=NEW, name=NAMES, ranking=RANKINGS, data=st.data())
def test_the_order_of_arrival_changes_nothing(
    earlier: list[Entry],
    new: list[Entry],
    name: str,
    ranking: list[int],
    data: st.DataObject,
) -> None:
    """Replies come in whatever order nodes finish."""
    verdict = resolve(earlier, new, name, deduplicate=True, ranking=ranking)
    again = resolve(
        data.draw(st.permutations(earlier)),
        data.draw(st.permutations(new)),
        name,
        deduplicate=True,
        ranking=ranking,
    )
    assert again == verdict


@given(earlier=EARLIER, new=NEW, name=NAMES, ranking=RANKINGS)
def test_facts_are_evaluated_apart(
    earlier: list[Entry], new: list[Entry], name: str, ranking: list[int]
) -> None:
    """What is asked of one fact has no bearing on another."""
    whole = resolve(earlier, new, name, deduplicate=True, ranking=ranking)
    for fact in "fg":
        part = resolve(
            [each for each in earlier if each.fact == fact],
            [each for each in new if each.fact == fact],
            name,
            deduplicate=True,
            ranking=ranking,
        )
        assert part.kept == tuple(each for each in whole.kept if each.fact == fact)


def test_the_names_of_a_scenario_are_those_of_the_policies() -> None:
    """All of them, in the same order."""
    assert tuple(POLICIES) == get_args(PolicyName)


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    """Even if there is nothing to resolve."""
    known = "none, first, last, priority, majority, drop"
    with pytest.raises(InputError, match=f"`newest` is no policy.*known are {known}"):
        resolve([], [], "newest", deduplicate=False)


@pytest.mark.parametrize("ranking", [[1, 0, 1], [0, -1]])
def test_a_ranking_lists_each_party_once(ranking: list[int]) -> None:
    """By its number, which is never negative."""
    with pytest.raises(InputError, match=r"`ranking` wants.*got \["):
        check_ranking(ranking)
    with pytest.raises(InputError, match="`ranking` wants"):
        resolve([], [], "first", deduplicate=False, ranking=ranking)


def test_a_ranking_may_leave_parties_out() -> None:
    """All of them, too."""
    check_ranking([])
    check_ranking((5, 0, 3))


def test_new_requests_are_of_one_later_round() -> None:
    """Else first and last would mean nothing."""
    with pytest.raises(InputError, match=r"rounds \[1, 2\] after round None"):
        resolve(
            [], said((0, "a"), at=1) + said((0, "a"), at=2), "first", deduplicate=False
        )
    with pytest.raises(InputError, match=r"rounds \[1\] after round 1"):
        decide("first", said((0, "a"), at=1), said((1, "a"), at=1))
