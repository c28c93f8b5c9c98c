"""Parties come and go between rounds."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp.exception import AggregationError

from sims.runs.in_process import InProcessGrid
from strategies.rounds.exchange import Refusal
from strategies.rounds.parties import MOST_HANDSHAKES
from strategies.rounds.registry import ABSENT
from strategies.wire.handshakes import (
    Handshake,
    read_handshake,
    write_handshake,
)
from strategies.wire.messages import Phase, TargetsReply, write_targets_reply
from strategies.wire.updates import DELTA
from tests.federation import (
    AT_ONCE,
    Federation,
    Recorder,
    assert_same_delta,
    edit_in_rounds,
    on_phase,
)
from tests.laws import ALGEBRA

Make = Callable[..., Federation]


class ChangingGrid(InProcessGrid):
    """A grid whose nodes are those of the round that is next."""

    def __init__(self, federation: Federation, *attendance: tuple[int, ...]) -> None:
        """Say which parties are there when the run begins, and in each round."""
        super().__init__(federation.contexts, federation.answer)
        self.federation = federation
        self.rounds = [
            [federation.node(each) for each in those] for those in attendance
        ]

    def get_node_ids(self) -> list[int]:
        """Who is there now."""
        begun = self.federation.strategy.registry.outcomes
        place = max(begun, default=0)
        return self.rounds[min(place, len(self.rounds) - 1)]


def attend(federation: Federation, *attendance: tuple[int, ...]) -> None:
    """Have parties come and go."""
    federation.grid = ChangingGrid(federation, *attendance)


def test_parties_join_and_leave_between_rounds_and_come_back(federate: Make) -> None:
    """Each round edits the requests of those that are there, in their order."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 3},
        parties={"requests-per-round": 1, "count": 3},
    )
    there = ((0, 1, 2), (0, 2), (1, 2, 0), (1,))
    attend(federation, *there)
    strategy, _ = federation.run()
    rounds = [
        [federation.requests_of_parties(number)[party][0] for party in sorted(those)]
        for number, those in enumerate(there[1:], start=1)
    ]
    expected = edit_in_rounds(federation.preparation, rounds, 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
    absent = [[], [1], [], [0, 2]]
    for number, those in enumerate(absent):
        expected_refusals = [
            Refusal(federation.node(each), ABSENT, f"party {each}") for each in those
        ]
        assert strategy.registry.outcomes[number].refusals == expected_refusals


def test_a_node_takes_the_place_of_one_that_left_and_keeps_it(federate: Make) -> None:
    """Were the other one let in again, two nodes would be one party."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 3},
        parties={"requests-per-round": 1},
        node_configs={2: {"partition-id": 0}},
    )
    federation.awaited = 2
    nodes = list(federation.contexts)
    grid = ChangingGrid(federation)
    grid.rounds = [nodes[:2], nodes[:2], nodes[1:], nodes]
    federation.grid = grid
    strategy, _ = federation.run()
    first, other, heir = nodes
    assert federation.nodes_asked(Phase.TARGETS) == [first, other, *[heir, other] * 2]
    ((node, reason),) = (
        (each.node, each.reason) for each in strategy.registry.outcomes[3].refusals
    )
    assert node == first
    assert "it claims to be party 0, and so does another node" in reason


@pytest.mark.parametrize(("slips", "rounds_missed"), [(1, 0), (2, 1), (9, 4)])
def test_who_fails_to_introduce_itself_is_asked_again_a_few_times(
    federate: Make, slips: int, rounds_missed: int
) -> None:
    """Before the first round, in it, and in the second one; everybody waits each time.

    The first message is the slowest, for then a node sees its model for the first time.
    """
    federation = federate(
        editing=AT_ONCE, run={"rounds": 4}, parties={"requests-per-round": 1}
    )
    left = iter([True] * slips)

    def slip(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.DESCRIBE.value and next(left, False):
            raise MemoryError
        return reply

    federation.tampers[1] = slip
    strategy, _ = federation.run()
    node = federation.node(1)
    missed = [
        number
        for number in (1, 2, 3, 4)
        if node in {each.node for each in strategy.registry.outcomes[number].refusals}
    ]
    assert missed == list(range(1, 1 + rounds_missed))
    asked = federation.nodes_asked(Phase.DESCRIBE).count(node)
    assert asked == min(slips + 1, MOST_HANDSHAKES)


def test_messages_live_as_long_as_replies_are_waited_for(federate: Make) -> None:
    """A node that was away is not given what nobody waits for any more."""
    federation = federate(run={"timeout": 77.0})
    federation.run()
    asked = [m for m in federation.messages if not m.metadata.reply_to_message_id]
    assert {message.metadata.ttl for message in asked} == {77.0}


def test_updates_are_sent_once_if_requests_are_compared_too(federate: Make) -> None:
    """A message without updates does not make a node forget those that it holds."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 3},
        parties={"requests-per-round": 1, "deduplicate": True},
    )
    federation.run()
    sent = [
        sorted(message.content.array_records[DELTA])
        for message in federation.requests_to(0, Phase.TARGETS)
    ]
    assert sent == [[], [], []]


def test_a_run_that_goes_on_does_without_who_left_it(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for all, a while, and then goes on if the least number is there."""
    monkeypatch.setattr("strategies.rounds.registry.RETURN_SECONDS", 0.2)
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2, "min-parties": 2},
        parties={"requests-per-round": 1},
    )
    recorder = Recorder()
    federation.run(callbacks=recorder)
    federation.grid = federation.grid_of(0, 2)
    _, result = federation.run(resume=recorder.states[0])
    assert result.evaluate_metrics_clientapp[2]["round.2.count.rewrite_acc"] == 2.0
    federation.grid = federation.grid_of(0)
    federation.config = federation.config.model_copy(
        update={"run": federation.config.run.model_copy(update={"timeout": 0.3})}
    )
    with pytest.raises(AggregationError, match=r"2 parties .* 1 came .* the others\."):
        federation.run(resume=recorder.states[0])


def test_who_joins_late_is_introduced_first_and_takes_its_place(federate: Make) -> None:
    """Its place in sums is that of its number and not of its coming."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 2}, parties={"requests-per-round": 1}
    )
    federation.awaited = 2
    attend(federation, (1, 2), (1, 2), (0, 1, 2))
    strategy, _ = federation.run()
    nodes = [federation.node(party) for party in range(3)]
    assert strategy.registry.parties.joined == nodes
    assert federation.nodes_asked(Phase.DESCRIBE) == [nodes[1], nodes[2], nodes[0]]
    assert federation.nodes_asked(Phase.TARGETS) == [*nodes[1:], *nodes]


def speak_another_protocol(content: RecordDict) -> None:
    """Say of oneself that one is of another version."""
    said = read_handshake(content)
    other = Handshake(**{**said.model_dump(), "protocol": 77})
    content["handshake"] = write_handshake(other)["handshake"]


def test_a_late_party_with_another_model_is_refused_and_not_asked_again(
    federate: Make,
) -> None:
    """In the round in which it comes, and in all others it is missing."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 3}, parties={"requests-per-round": 1}
    )
    federation.awaited = 2
    attend(federation, (0, 1), (0, 1), (0, 1, 2))
    stranger = federation.node(2)

    federation.tampers[2] = on_phase(Phase.DESCRIBE, speak_another_protocol)
    strategy, _ = federation.run()
    missing = [
        [each.node for each in strategy.registry.outcomes[number].refusals]
        for number in (1, 2, 3)
    ]
    assert missing == [[], [stranger], [stranger]]
    assert federation.nodes_asked(Phase.DESCRIBE).count(stranger) == 1


def test_a_round_with_too_few_parties_stops_the_run(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who left are waited for a while, and the run says how many it has."""
    monkeypatch.setattr("strategies.rounds.registry.RETURN_SECONDS", 0.3)
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2, "min-parties": 2},
        parties={"requests-per-round": 1},
    )
    attend(federation, (0, 1, 2), (0, 1), (2,))
    with pytest.raises(AggregationError, match="Round 2 has 1 parties left"):
        federation.run()


def test_parties_without_new_requests_evaluate_those_they_made_before(
    federate: Make,
) -> None:
    """Retention is of everybody's requests, whoever asks for something now."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2},
        parties={"requests-per-round": "[[2, 1, 1], [0, 2, 0]]", "allow-empty": True},
    )
    _, result = federation.run()
    found = result.evaluate_metrics_clientapp[2]
    assert found["round.1.count.rewrite_acc"] == 4.0
    assert found["round.2.count.rewrite_acc"] == 2.0


def test_a_party_that_joins_does_not_make_the_others_fewer(federate: Make) -> None:
    """Those whose requests were all known in the round before are there, too."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2, "min-parties": 2},
        parties={"requests-per-round": 1, "skip-known": 1e9},
    )
    federation.awaited = 2
    attend(federation, (0, 1), (0, 1), (0, 1, 2))
    strategy, _ = federation.run()
    assert len(strategy.registry.outcomes[2].unedited) == 3


def test_two_nodes_cannot_be_one_party(federate: Make) -> None:
    """Their requests would be taken for one another's."""
    twin = {1: {"partition-id": 0}}
    federation = federate(node_configs=twin, editing=AT_ONCE)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert "party 0, and so does another node" in refusal.reason
    assert len(strategy.registry.parties.joined) == 2


def test_a_party_that_does_not_evaluate_costs_no_round(federate: Make) -> None:
    """The update is made by then, and all parties of the round are in it."""
    federation = federate(editing=AT_ONCE, run={"min-parties": 3})

    def fail(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.EVALUATE.value:
            raise MemoryError
        return reply

    federation.tampers[1] = fail
    recorder = Recorder()
    strategy, result = federation.run(callbacks=recorder)
    assert [state.number for state in recorder.states] == [1]
    assert_same_delta(strategy.delta, federation.edit_alone(), ALGEBRA)
    outcome = strategy.registry.outcomes[1]
    assert (outcome.requests, len(outcome.refusals)) == (6, 1)
    assert result.evaluate_metrics_clientapp[1]["round.1.count.rewrite_acc"] == 4.0


def test_a_round_that_loses_all_who_had_something_to_edit_stops_the_run(
    federate: Make,
) -> None:
    """Though others are there, content with what the model knows."""
    federation = federate(
        parties={"requests-per-round": "[1, 1, 0]", "allow-empty": True}
    )

    def fail(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.STATISTICS.value:
            raise MemoryError
        return reply

    federation.tampers[0] = fail
    federation.tampers[1] = on_phase(Phase.TARGETS, say_all_is_known)
    with pytest.raises(AggregationError, match="lost all parties that had requests"):
        federation.run()


def say_all_is_known(content: RecordDict) -> None:
    """Have requests, and nothing to edit."""
    content["targets"] = write_targets_reply(TargetsReply(requests=0, known=1))[
        "targets"
    ]


class RegisteredGrid(InProcessGrid):
    """A grid whose nodes are registered with keys, as those of a deployment."""

    def __init__(self, federation: Federation, keys: Mapping[int, bytes]) -> None:
        """Say which node has which public key."""
        super().__init__(federation.contexts, federation.answer)
        self.keys = keys

    def get_nodes(self) -> list[NodeInfo]:
        """What the SuperLink tells a server app."""
        return [
            NodeInfo(node_id=node, public_key=self.keys.get(node, b""))
            for node in self.get_node_ids()
        ]


@lru_cache
def draw_key(number: int) -> EllipticCurvePublicKey:
    """Make a key for a node."""
    del number
    return generate_private_key(SECP384R1()).public_key()


def line_of(number: int) -> str:
    """Write a public key as its file has it, with a comment."""
    key = draw_key(number).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{key.decode()} me@host{number}"


@pytest.mark.parametrize("claims", [0, 1, -1])
def test_a_number_belongs_to_a_key(federate: Make, claims: int) -> None:
    """A node that says another's number is refused, even if it comes first."""
    federation = federate(
        editing=AT_ONCE,
        node_configs={2: {"partition-id": claims}},
        parties={"keys": json.dumps([line_of(each) for each in range(3)])},
        places=(102, 101, 100),
    )
    nodes = list(federation.contexts)
    format_of = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    pems = {node: draw_key(i).public_bytes(*format_of) for i, node in enumerate(nodes)}
    federation.grid = RegisteredGrid(federation, pems)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == nodes[2] == min(nodes)
    assert "(`parties.keys`)" in refusal.reason
    assert strategy.registry.parties.joined == nodes[:2]


def test_of_unregistered_nodes_nobody_is_a_party_with_a_key(federate: Make) -> None:
    """In a simulation there are none."""
    keys = json.dumps([line_of(each) for each in range(3)])
    federation = federate(editing=AT_ONCE, parties={"keys": keys})
    with pytest.raises(AggregationError, match=r"parties\.keys"):
        federation.run()


def test_nobody_is_a_party_beyond_their_count(federate: Make) -> None:
    """It would have as many requests as any, and a place in the sums."""
    federation = federate(editing=AT_ONCE, node_configs={1: {"partition-id": 3}})
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert "party 3, and there are 3 (`parties.count`)" in refusal.reason
    assert len(strategy.registry.parties.joined) == 2
