"""Each node gets the resolutions of its own requests."""

from collections.abc import Mapping, Sequence

import pytest

from strategies.conflicts.arbiter import Arbiter
from strategies.conflicts.policies import Entry
from strategies.conflicts.records import Resolution, TokenEntry
from strategies.partitioning.settings import PartiesConfig
from strategies.wire.handshakes import FIRST_UNNUMBERED_ID

FACTS = {"f": "0" * 32, "g": "1" * 32}
TARGETS = {"a": "a" * 32, "b": "b" * 32}


def entry(party: int, place: int, fact: str, target: str) -> TokenEntry:
    """Write a request of a party as tokens."""
    return TokenEntry(
        party=party, place=place, fact=FACTS[fact], target=TARGETS[target]
    )


def arbiter(**settings: object) -> Arbiter:
    """Make the arbiter of three parties."""
    table = {"count": 3, "requests_per_round": 2, **settings}
    rules = PartiesConfig.model_validate(table).conflict_rules
    assert rules is not None
    return Arbiter(rules)


def shorten(
    resolutions: Mapping[int, Sequence[Resolution]],
) -> dict[int, list[tuple[object, ...]]]:
    """Shorten resolutions to place, reason and whether the request is edited."""
    return {
        node: [(each.place, each.reason, each.kept) for each in those]
        for node, those in resolutions.items()
    }


MEETING = {
    70: [entry(0, 0, "f", "a"), entry(0, 1, "g", "a")],
    50: [entry(1, 0, "f", "b")],
    60: [entry(2, 0, "f", "a")],
}
PLACES = {70: 0, 50: 1, 60: 2}


def test_a_conflict_is_resolved_for_all_whose_requests_are_in_it_and_nobody_else() -> (
    None
):
    """Winners too; the request on another fact is not mentioned."""
    resolver = arbiter(conflicts="first")
    assert resolver.resolve_round(1, MEETING, PLACES) == (1, 1)
    assert shorten(resolver.resolutions) == {
        70: [(0, "conflict", True)],
        50: [(0, "conflict", False)],
        60: [(0, "conflict", True)],
    }


def test_a_duplicate_counts_once_and_conflicts_are_not_looked_for() -> None:
    """With `deduplicate` alone."""
    resolver = arbiter(deduplicate=True)
    assert resolver.resolve_round(1, MEETING, PLACES) == (1, 0)
    assert shorten(resolver.resolutions) == {
        70: [(0, "duplicate", True)],
        60: [(0, "duplicate", False)],
    }


def test_none_reports_and_leaves_nothing_out() -> None:
    """So that the damage can be seen."""
    resolver = arbiter(conflicts="none")
    assert resolver.resolve_round(1, MEETING, PLACES) == (1, 1)
    assert all(each.kept for those in resolver.resolutions.values() for each in those)


def test_a_request_meets_those_that_earlier_rounds_edited() -> None:
    """Not those that were left out then."""
    resolver = arbiter(conflicts="first")
    resolver.resolve_round(1, MEETING, PLACES)
    resolver.settle(MEETING)
    assert len(resolver.history) == 3
    assert resolver.resolve_round(2, {50: [entry(1, 0, "f", "b")]}, PLACES) == (0, 1)
    assert shorten(resolver.resolutions) == {50: [(0, "conflict", False)]}
    # Those whose earlier requests are contradicted get it if they are there.
    both = {70: [], 50: [entry(1, 0, "f", "b")]}
    resolver.resolve_round(2, both, PLACES)
    (earlier,) = resolver.resolutions[70]
    assert (earlier.round, earlier.party, earlier.place) == (1, 0, 0)
    assert (earlier.reason, earlier.kept) == ("conflict", True)
    assert earlier.fact == FACTS["f"]
    assert resolver.resolve_round(3, {50: [entry(1, 0, "g", "a")]}, PLACES) == (0, 0)
    assert resolver.resolutions == {}


def test_what_a_party_that_failed_had_asked_for_is_no_history() -> None:
    """It was ruled to be edited, and never was."""
    resolver = arbiter(conflicts="first")
    resolver.resolve_round(1, MEETING, PLACES)
    resolver.settle([60])
    assert [each.party for each in resolver.history] == [2]
    resolver.settle([70, 50, 60])
    assert [each.party for each in resolver.history] == [2]


def test_a_node_cannot_claim_to_be_another_party() -> None:
    """Its rank is that of its own place, whatever it writes."""
    resolver = arbiter(conflicts="priority", priority=(0, 1))
    liar = {50: [entry(0, 0, "f", "b")], 70: [entry(0, 0, "f", "a")]}
    resolver.resolve_round(1, liar, PLACES)
    resolver.settle(liar)
    assert shorten(resolver.resolutions) == {
        50: [(0, "conflict", False)],
        70: [(0, "conflict", True)],
    }
    assert resolver.history == [Entry(1, 0, 0, FACTS["f"], TARGETS["a"])]


def test_the_node_that_speaks_for_all_says_whose_each_request_is() -> None:
    """Under `global`; resolutions name the party and reach that node."""
    resolver = arbiter(conflicts="priority", priority=(1,))
    pooled = {70: [each for own in MEETING.values() for each in own]}
    resolver.resolve_round(1, pooled, None)
    kept = {(each.party, each.place): each.kept for each in resolver.resolutions[70]}
    assert kept == {(0, 0): False, (1, 0): True, (2, 0): False}


@pytest.mark.parametrize("conflicts", ["first", "last", "majority", "drop"])
def test_one_machine_and_many_come_to_the_same_resolutions(conflicts: str) -> None:
    """So that `collabedit` stays equal to `global`."""
    apart, pooled = (arbiter(conflicts=conflicts, deduplicate=True) for _ in range(2))
    apart.resolve_round(1, MEETING, PLACES)
    apart.settle(MEETING)
    pooled.resolve_round(
        1, {70: [each for own in MEETING.values() for each in own]}, None
    )
    pooled.settle([70])
    assert apart.history == pooled.history


def test_nodes_without_a_number_come_last_in_the_order_of_the_registry() -> None:
    """In deployment a node may have none."""
    resolver = arbiter(conflicts="first")
    unplaced = {50: [entry(-1, 0, "f", "b")], 60: [entry(-1, 0, "f", "a")]}
    resolver.resolve_round(
        1, unplaced, {50: FIRST_UNNUMBERED_ID, 60: FIRST_UNNUMBERED_ID + 1}
    )
    resolver.settle(unplaced)
    assert shorten(resolver.resolutions)[50] == [(0, "conflict", True)]
    assert resolver.history[0].party == FIRST_UNNUMBERED_ID
    resolver.resolve_round(
        2, {50: [], 60: [entry(-1, 0, "f", "a")]}, {50: FIRST_UNNUMBERED_ID, 60: 9}
    )
    assert [each.party for each in resolver.resolutions[50]] == [
        -1
    ]  # as it knows itself
