"""Parties come and go between rounds."""

from collections.abc import Callable, Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp.exception import AggregationError

from sims.in_process import InProcessGrid
from strategies.introductions import Introduction, read_introduction, write_introduction
from strategies.messages import Phase, TargetsReply, write_targets_reply
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
    assert all(not each.refusals for each in strategy.roster.outcomes.values())


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


def test_who_does_not_come_back_is_waited_for_no_longer_than_that(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the run stops, and says who is missing."""
    monkeypatch.setattr("strategies.roster.RETURN_SECONDS", 0.3)
    federation = federate()
    federation.grid = Outage(federation, looks=10**6)
    with pytest.raises(AggregationError, match=r"needs 1.*cannot be reached"):
        federation.run()
