"""Links and parties that are lost in the middle of a round, some of them for good."""

from collections.abc import Callable, Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.serverapp.exception import AggregationError

from sims.runs.in_process import InProcessGrid
from strategies.rounds.registry import MOST_RESTARTS
from strategies.wire.messages import Phase
from tests.federation import AT_ONCE, Federation, Recorder, assert_same_delta, on_phase
from tests.laws import ALGEBRA

Make = Callable[..., Federation]


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
    assert strategy.registry.outcomes[1].refusals == []
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
    assert asked.count(federation.node(2)) == 1 + MOST_RESTARTS


def test_parties_without_a_request_do_not_stand_in_for_one_that_is_lost(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for no longer than anybody else."""
    monkeypatch.setattr("strategies.rounds.registry.RETURN_SECONDS", 0.3)
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


def test_what_was_sent_and_refused_is_reported_as_refused(federate: Make) -> None:
    """A reply came, and the party goes on no further all the same."""
    federation = federate(editing=AT_ONCE)
    federation.tampers[1] = on_phase(Phase.TARGETS, spoil)
    recorder = Recorder()
    strategy, _ = federation.run(callbacks=recorder)
    (refusal,) = strategy.registry.outcomes[1].refusals
    found = {
        each.party: (each.outcome, each.bytes_up > 0)
        for each in recorder.exchanges
        if each.phase == Phase.TARGETS.value
    }
    assert found == {0: ("ok", True), 1: (refusal.reason, True), 2: ("ok", True)}
    described = [e for e in recorder.exchanges if e.phase == Phase.DESCRIBE.value]
    assert [each.party for each in described] == [0, 1, 2]
    assert [each.name for each in described] == ["party 0", "party 1", "party 2"]


def spoil(content: RecordDict) -> None:
    """Send no statistics."""
    content.array_records["statistics"].clear()


def test_who_does_not_come_back_is_waited_for_no_longer_than_that(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the run stops, and says who is missing."""
    monkeypatch.setattr("strategies.rounds.registry.RETURN_SECONDS", 0.3)
    federation = federate()
    federation.grid = Outage(federation, looks=10**6)
    with pytest.raises(AggregationError, match=r"needs 1.*cannot be reached"):
        federation.run()
