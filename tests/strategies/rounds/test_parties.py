"""Parties are called by their names, and never by their nodes' numbers."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.statistics import StatisticsError
from strategies.rounds.parties import Parties
from strategies.wire.handshakes import FIRST_UNNUMBERED_ID, Handshake
from strategies.wire.messages import PROTOCOL_VERSION, Phase
from tests.federation import AT_ONCE, Federation, Recorder
from tests.strategies.transport import OURS
from tests.strategies.wrongs import disturb, failing

Make = Callable[..., Federation]

NODE = 12345678901234567890


def handshake(number: int, name: str = "") -> Handshake:
    """Write the handshake of a party."""
    return Handshake(protocol=PROTOCOL_VERSION, identity=OURS, party=number, name=name)


def parties(*joined: tuple[int, str]) -> Parties:
    """Let parties join, the nodes in ascending order."""
    found = Parties()
    found.ask(range(NODE, NODE + len(joined)), 0)
    for node, (number, name) in enumerate(joined, start=NODE):
        found.join(node, handshake(number, name))
    return found


@pytest.mark.parametrize(
    ("joined", "labels"),
    [
        (((3, "hospital-a"), (1, "")), ["hospital-a", "party 1"]),
        (((-1, ""), (-1, "")), ["unnumbered party 1", "unnumbered party 2"]),
        (((0, "a"), (1, "a")), ["a (party 0)", "a (party 1)"]),
        (((-1, "a"), (1, "a")), ["a (unnumbered party 1)", "a (party 1)"]),
    ],
)
def test_a_party_is_called_by_its_name_or_its_number(
    joined: tuple[tuple[int, str], ...], labels: list[str]
) -> None:
    """A name that is used twice comes with the number."""
    found = parties(*joined)
    assert [found.label(NODE + place) for place in range(len(joined))] == labels


def test_a_node_that_has_not_joined_is_called_by_the_order_of_asking() -> None:
    """Its own number is long and means nothing to anybody."""
    found = parties((0, ""))
    found.ask([7], 1)
    assert found.label(7) == "unidentified node 2"
    found.introduce(7, "hospital-c")
    assert found.label(7) == "hospital-c"
    assert str(NODE) not in found.label(NODE)


def test_a_node_takes_over_the_party_of_one_that_left() -> None:
    """And an unnumbered party never takes the id of another."""
    found = parties((0, "old"), (-1, ""), (2, ""))
    with pytest.raises(StatisticsError, match="party 0, and so does another node"):
        found.check_number(0, [NODE])
    found.check_number(0, [NODE + 1])
    found.join(1, handshake(0, "new"))
    assert found.joined == [1, NODE + 2, NODE + 1]
    assert (found.label(1), found.number_of(NODE)) == ("new", -1)
    found.join(2, handshake(-1))
    assert (found.id_of(NODE + 1), found.id_of(2)) == (
        FIRST_UNNUMBERED_ID,
        FIRST_UNNUMBERED_ID + 1,
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(-1, 2), st.sampled_from(["", "a"])),
        max_size=12,
    )
)
def test_labels_and_numbers_follow_from_who_is_there(
    joined: list[tuple[int, int, str]],
) -> None:
    """However often nodes join, in whatever party's place."""
    found = Parties()
    found.ask(range(5), 0)
    for node, number, name in joined:
        found.join(node, handshake(number, name))
        there = found.by_node
        assert there[node].name == name
        assert len({each.id for each in there.values()}) == len(there)
        for other, party in there.items():
            names = [each.name for each in there.values()]
            twice = party.name and names.count(party.name) > 1
            plain = replace(party, name="").label
            called = f"{party.name} ({plain})" if twice else party.label
            assert found.label(other) == called
        for claimed in range(3):
            holders = {n for n, each in there.items() if each.number == claimed}
            with pytest.raises(StatisticsError) if holders else nullcontext():
                found.check_number(claimed, holders)
            found.check_number(claimed, set(range(5)) - holders)


def test_names_reach_the_log_refusals_and_exchanges(
    federate: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """From the node config, through the handshake."""
    names = {0: {"name": "hospital-a"}, 1: {"name": "Klinik Süd"}}
    federation = federate(node_configs=names, editing=AT_ONCE)
    disturb(federation, Phase.TARGETS, failing("not enough memory"))
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        strategy, _ = federation.run(callbacks=recorder)
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.name == "Klinik Süd"
    assert "round 1 continues without Klinik Süd: it reported" in caplog.text
    asked = {each.name for each in recorder.exchanges if each.round == 1}
    assert asked == {"hospital-a", "Klinik Süd", "party 2"}
    assert [str(node) for node in federation.contexts if str(node) in caplog.text] == []
