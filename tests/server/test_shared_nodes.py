"""Fewer nodes than parties: each party stays apart, whoever carries it."""

from collections.abc import Iterable
from uuid import uuid4

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from server.shared_nodes import FIRST_PARTY, SharedNodes, seat_parties


class Echo:
    """A grid of two nodes that answer with the party they were asked as."""

    def __init__(self) -> None:
        """Nothing has been sent."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.sent: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        """Two nodes."""
        return [7, 8]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Number messages and keep them."""
        numbers = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            numbers.append(message.metadata.message_id)
            self.sent.append(message)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer each message with what it says of the party."""
        wanted = set(message_ids)
        found = [m for m in self.sent if m.metadata.message_id in wanted]
        return [
            Message(RecordDict({"party": m.content["party"]}), reply_to=m)
            for m in found
        ]


class InMemoryGrid(Echo):
    """Named as the grid of Flower's simulation is."""


def ask(node: int) -> Message:
    """A message that says nothing."""
    content = RecordDict({"said": ConfigRecord({"word": "hello"})})
    return Message(content, dst_node_id=node, message_type="query.describe")


def test_each_party_is_asked_once_and_answers_as_itself() -> None:
    """Five parties on two nodes: numbers, places and carriers all agree."""
    echo = Echo()
    grid = SharedNodes(echo, [7, 8], 5)  # type: ignore[arg-type]
    messages = [ask(node) for node in grid.get_node_ids()]
    numbers = grid.push_messages(messages)
    assert [m.metadata.message_id for m in messages] == list(numbers)
    assert [m.metadata.dst_node_id for m in echo.sent] == [7, 8, 7, 8, 7]
    replies = list(grid.pull_messages(numbers))
    for reply in replies:
        place = reply.content["party"]["place"]
        assert reply.metadata.src_node_id == FIRST_PARTY + int(str(place))
    assert len({reply.metadata.src_node_id for reply in replies}) == 5


def test_a_message_keeps_what_it_says() -> None:
    """The party's place is added, and nothing is taken away."""
    echo = Echo()
    grid = SharedNodes(echo, [7], 1)  # type: ignore[arg-type]
    grid.push_messages([ask(FIRST_PARTY)])
    assert echo.sent[0].content["said"]["word"] == "hello"
    assert echo.sent[0].metadata.message_type == "query.describe"


@pytest.mark.process  # Flower takes a while to load
def test_only_a_simulation_shares_its_nodes() -> None:
    """In deployment the parties that are missing are waited for."""
    deployed, simulated = Echo(), InMemoryGrid()
    assert seat_parties(deployed, 5) is deployed  # type: ignore[arg-type, comparison-overlap]
    assert seat_parties(simulated, 2) is simulated  # type: ignore[arg-type, comparison-overlap]
    assert isinstance(seat_parties(simulated, 5), SharedNodes)  # type: ignore[arg-type]
