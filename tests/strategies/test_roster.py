"""Parties come and go between rounds."""

from collections.abc import Callable, Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp.exception import AggregationError

from sims.in_process import InProcessGrid
from strategies.exchange import ExchangeRecord, Refusal
from strategies.introductions import Introduction, read_introduction, write_introduction
from strategies.messages import Phase, TargetsReply, write_targets_reply
from strategies.roster import ABSENT, INTRODUCTIONS, RETURNS
from strategies.rounds import RoundState
from strategies.updates import DELTA
from tests.federation import (
    AT_ONCE,
    Federation,
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
        begun = self.federation.strategy.roster.outcomes
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
        expected_refusals = [Refusal(federation.node(each), ABSENT) for each in those]
        assert strategy.roster.outcomes[number].refusals == expected_refusals


def test_a_node_takes_the_place_of_one_that_left_and_keeps_it(federate: Make) -> None:
    """Were the other one let in again, two nodes would be one party."""
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 3},
        parties={"requests-per-round": 1},
        node_configs={2: {"partition-id": 0}},
    )
    federation.config = federation.config.model_copy(
        update={"parties": federation.config.parties.model_copy(update={"count": 2})}
    )
    nodes = list(federation.contexts)
    grid = ChangingGrid(federation)
    grid.rounds = [nodes[:2], nodes[:2], nodes[1:], nodes]
    federation.grid = grid
    strategy, _ = federation.run()
    first, other, heir = nodes
    assert federation.nodes_asked(Phase.TARGETS) == [first, other, *[heir, other] * 2]
    ((node, reason),) = (
        (each.node, each.reason) for each in strategy.roster.outcomes[3].refusals
    )
    assert node == first
    assert f"party 0, which node {heir} is already" in reason


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
        if node in {each.node for each in strategy.roster.outcomes[number].refusals}
    ]
    assert missed == list(range(1, 1 + rounds_missed))
    asked = federation.nodes_asked(Phase.DESCRIBE).count(node)
    assert asked == min(slips + 1, INTRODUCTIONS)


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
    monkeypatch.setattr("strategies.roster.RETURN_SECONDS", 0.2)
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2, "min-parties": 2},
        parties={"requests-per-round": 1},
    )
    states: list[RoundState] = []
    federation.run(on_round=lambda state, *_: states.append(state))
    federation.grid = federation.grid_of(0, 2)
    _, result = federation.run(resume=states[0])
    assert result.evaluate_metrics_clientapp[2]["round.2.count.rewrite_acc"] == 2.0
    federation.grid = federation.grid_of(0)
    federation.config = federation.config.model_copy(
        update={"run": federation.config.run.model_copy(update={"timeout": 0.3})}
    )
    with pytest.raises(AggregationError, match=r"2 parties .* 1 came .* the others\."):
        federation.run(resume=states[0])


def test_who_joins_late_is_introduced_first_and_takes_its_place(federate: Make) -> None:
    """Its place in sums is that of its number and not of its coming."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 2}, parties={"requests-per-round": 1}
    )
    federation.config = federation.config.model_copy(
        update={"parties": federation.config.parties.model_copy(update={"count": 2})}
    )
    attend(federation, (1, 2), (1, 2), (0, 1, 2))
    strategy, _ = federation.run()
    nodes = [federation.node(party) for party in range(3)]
    assert strategy.roster.order == nodes
    assert federation.nodes_asked(Phase.DESCRIBE) == [nodes[1], nodes[2], nodes[0]]
    assert federation.nodes_asked(Phase.TARGETS) == [*nodes[1:], *nodes]


def speak_another_protocol(content: RecordDict) -> None:
    """Say of oneself that one is of another version."""
    said = read_introduction(content)
    other = Introduction(**{**said.model_dump(), "protocol": 77})
    content["introduction"] = write_introduction(other)["introduction"]


def test_a_late_party_with_another_model_is_refused_and_not_asked_again(
    federate: Make,
) -> None:
    """In the round in which it comes, and in all others it is missing."""
    federation = federate(
        editing=AT_ONCE, run={"rounds": 3}, parties={"requests-per-round": 1}
    )
    federation.config = federation.config.model_copy(
        update={"parties": federation.config.parties.model_copy(update={"count": 2})}
    )
    attend(federation, (0, 1), (0, 1), (0, 1, 2))
    stranger = federation.node(2)

    federation.tampers[2] = on_phase(Phase.DESCRIBE, speak_another_protocol)
    strategy, _ = federation.run()
    missing = [
        [each.node for each in strategy.roster.outcomes[number].refusals]
        for number in (1, 2, 3)
    ]
    assert missing == [[], [stranger], [stranger]]
    assert federation.nodes_asked(Phase.DESCRIBE).count(stranger) == 1


def test_a_round_with_too_few_parties_stops_the_run(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who left are waited for a while, and the run says how many it has."""
    monkeypatch.setattr("strategies.roster.RETURN_SECONDS", 0.3)
    federation = federate(
        editing=AT_ONCE,
        run={"rounds": 2, "min-parties": 2},
        parties={"requests-per-round": 1},
    )
    attend(federation, (0, 1, 2), (0, 1), (2,))
    with pytest.raises(AggregationError, match="Round 2 has 1 parties left"):
        federation.run()


def test_parties_without_new_requests_judge_those_they_made_before(
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
    federation.config = federation.config.model_copy(
        update={"parties": federation.config.parties.model_copy(update={"count": 2})}
    )
    attend(federation, (0, 1), (0, 1), (0, 1, 2))
    strategy, _ = federation.run()
    assert len(strategy.roster.outcomes[2].content) == 3


def test_two_nodes_cannot_be_one_party(federate: Make) -> None:
    """Their requests would be taken for one another's."""
    twin = {1: {"partition-id": 0}}
    federation = federate(node_configs=twin, editing=AT_ONCE)
    strategy, _ = federation.run()
    (refusal,) = strategy.roster.outcomes[1].refusals
    assert "party 0, which node" in refusal.reason
    assert len(strategy.roster.order) == 2


def test_who_does_not_judge_costs_no_round(federate: Make) -> None:
    """The update is made by then, and all parties of the round are in it."""
    federation = federate(editing=AT_ONCE, run={"min-parties": 3})

    def fail(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == Phase.EVALUATE.value:
            raise MemoryError
        return reply

    federation.tampers[1] = fail
    done = []
    strategy, result = federation.run(on_round=lambda state, *_: done.append(state))
    assert [state.number for state in done] == [1]
    assert_same_delta(strategy.delta, federation.edit_alone(), ALGEBRA)
    outcome = strategy.roster.outcomes[1]
    assert (outcome.requests, len(outcome.refusals)) == (6, 1)
    assert result.evaluate_metrics_clientapp[1]["round.1.count.rewrite_acc"] == 4.0


def test_a_round_that_loses_all_who_had_something_to_edit_stops_the_run(
    federate: Make,
) -> None:
    """Though others are there, content with what the model knows."""
    federation = federate(
        parties={"requests-per-round": "[1, 0, 0]", "allow-empty": True}
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
    content["targets"] = write_targets_reply(TargetsReply(requests=0, known=2))[
        "targets"
    ]


class Outage(InProcessGrid):
    """A grid that is down for the parties' first statistics, and for some looks more.

    What Flower does of a link that was stopped and started again: all messages under
    way are answered for with its error 5, and nobody is there until the next sign.
    """

    def __init__(self, federation: Federation, looks: int) -> None:
        """Say how often nobody is seen."""
        super().__init__(federation.contexts, federation.answer)
        self.looks, self.down = looks, False

    def get_node_ids(self) -> list[int]:
        """Nobody, while it lasts."""
        if self.down and self.looks > 0:
            self.looks -= 1
            return []
        return list(super().get_node_ids())

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over errors in the place of the first statistics."""
        found = list(super().pull_messages(message_ids))
        late = [m.metadata.message_type == Phase.STATISTICS.value for m in found]
        self.down |= any(late)
        if not any(late) or self.looks <= 0:
            return found
        return [lose(reply) for reply in found]


def lose(reply: Message) -> Message:
    """Answer for a node that cannot be reached."""
    lost = Message(Error(5, "Node Unavailable"), reply_to=reply)
    lost.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    return lost


def test_a_round_begins_again_when_a_link_that_was_down_is_back(
    federate: Make,
) -> None:
    """Nobody is missing from it then, and nobody is named."""
    federation = federate(run={"min-parties": 2})
    federation.grid = Outage(federation, looks=3)
    strategy, _ = federation.run()
    assert strategy.roster.outcomes[1].refusals == []
    assert_same_delta(strategy.delta, federation.edit_alone(), ALGEBRA)


class Crashing(InProcessGrid):
    """A grid whose last party is lost with every message about targets."""

    def __init__(self, federation: Federation, *, back: bool) -> None:
        """Say whether it is there again at once, or never."""
        super().__init__(federation.contexts, federation.answer)
        self.last, self.back, self.lost = federation.node(2), back, False

    def get_node_ids(self) -> list[int]:
        """All, or all others."""
        nodes = list(super().get_node_ids())
        return nodes if self.back or not self.lost else nodes[:-1]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over an error in the place of its targets."""
        for reply in super().pull_messages(message_ids):
            targets = reply.metadata.message_type == Phase.TARGETS.value
            if targets and reply.metadata.src_node_id == self.last:
                self.lost = True
                yield lose(reply)
            else:
                yield reply


def test_a_party_that_is_lost_again_and_again_holds_a_round_up_a_few_times(
    federate: Make,
) -> None:
    """Then the run stops, since too few are left without it."""
    federation = federate(editing=AT_ONCE, run={"min-parties": 3})
    federation.grid = Crashing(federation, back=True)
    with pytest.raises(AggregationError, match=r"2 parties left and needs 3"):
        federation.run()
    asked = federation.nodes_asked(Phase.TARGETS)
    assert asked.count(federation.node(2)) == 1 + RETURNS


def test_parties_without_a_request_do_not_stand_in_for_one_that_is_lost(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for no longer than anybody else."""
    monkeypatch.setattr("strategies.roster.RETURN_SECONDS", 0.3)
    federation = federate(
        editing=AT_ONCE,
        run={"min-parties": 2},
        parties={"requests-per-round": "[2, 0, 2]", "allow-empty": True},
    )
    federation.grid = Crashing(federation, back=False)
    with pytest.raises(AggregationError, match=r"1 parties left and needs 2"):
        federation.run()
    asked = federation.nodes_asked(Phase.TARGETS)
    assert asked.count(federation.node(0)) == 1


def test_what_was_sent_and_refused_is_told_as_refused(federate: Make) -> None:
    """A reply came, and the party goes on no further all the same."""
    federation = federate(editing=AT_ONCE)
    federation.tampers[1] = on_phase(Phase.TARGETS, spoil)
    told: list[ExchangeRecord] = []
    strategy, _ = federation.run(on_exchange=told.append)
    (refusal,) = strategy.roster.outcomes[1].refusals
    found = {
        each.party: (each.outcome, each.bytes_up > 0)
        for each in told
        if each.phase == Phase.TARGETS.value
    }
    assert found == {0: ("ok", True), 1: (refusal.reason, True), 2: ("ok", True)}
    assert [e.party for e in told if e.phase == Phase.DESCRIBE.value] == [0, 1, 2]


def spoil(content: RecordDict) -> None:
    """Send no statistics."""
    content.array_records["statistics"].clear()


def test_who_does_not_come_back_is_waited_for_no_longer_than_that(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the run stops, and says who is missing."""
    monkeypatch.setattr("strategies.roster.RETURN_SECONDS", 0.3)
    federation = federate()
    federation.grid = Outage(federation, looks=10**6)
    with pytest.raises(AggregationError, match=r"needs 1.*cannot be reached"):
        federation.run()
