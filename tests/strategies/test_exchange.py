"""Every message gets its reply or a refusal, put down to the right node."""

import logging
from collections.abc import Callable, Iterable

import pytest
from flwr.app import Context, Error, Message, RecordDict

from sims.in_process import LINK_NODE, InProcessGrid
from strategies.exchange import Exchanged, exchange, forget
from strategies.messages import Phase, write_failure, write_metrics

NODES = (7, 5, 9)

Answer = Callable[[Message], Message]


def honest(message: Message) -> Message:
    """Say which node was asked."""
    return Message(
        write_metrics({"node": float(message.metadata.dst_node_id)}), reply_to=message
    )


class OneByOne(InProcessGrid):
    """A grid that hands over one reply at a time, that of the last node first."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over what came for the last message that is waited for."""
        return super().pull_messages(list(message_ids)[-1:])


class Lossy(InProcessGrid):
    """A grid that loses what the last node says."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over the other replies."""
        found = super().pull_messages(message_ids)
        return [reply for reply in found if reply.metadata.src_node_id != NODES[-1]]


def grid_of(
    answers: dict[int, Answer], kind: type[InProcessGrid] = InProcessGrid
) -> InProcessGrid:
    """Make a grid of honest nodes, but for some."""

    def client(message: Message, _: Context) -> Message:
        return answers.get(message.metadata.dst_node_id, honest)(message)

    contexts = {
        node: Context(
            run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={}
        )
        for node in NODES
    }
    return kind(contexts, client)


def ask(
    grid: InProcessGrid, timeout: float = 30.0, **more: Callable[[int], None]
) -> Exchanged:
    """Ask all nodes, in the order of `NODES`."""
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type=Phase.TARGETS.value)
        for node in NODES
    ]
    return exchange(grid, messages, timeout, **more)


def test_replies_keep_the_order_of_the_messages_however_they_arrive() -> None:
    """Sums depend on the order of their terms."""
    found = ask(grid_of({}, OneByOne))
    assert list(found.replies) == list(NODES)
    assert list(found.refusals) == []
    for node, reply in found.replies.items():
        assert reply.content.metric_records["metrics"]["node"] == node


def test_the_number_of_replies_is_told_as_they_arrive() -> None:
    """A bar on the terminal grows."""
    told: list[int] = []
    ask(grid_of({}, OneByOne), on_reply=told.append)
    assert told == [1, 2, 3]


def by_the_link(message: Message) -> Message:
    """Answer for a node that is gone, as Flower's link does: under its own number."""
    reply = Message(Error(5, "node 5 of /home/ada is gone"), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = LINK_NODE
    return reply


def broken(_: Message) -> Message:
    """Raise what a client may raise."""
    raise ValueError("/home/ada/requests.json")


def to_nobody(message: Message) -> Message:
    """Answer a message that was never sent."""
    reply = honest(message)
    reply.metadata.__dict__["_reply_to_message_id"] = "another"
    return reply


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (by_the_link, "Flower's error 5"),
        (broken, "Flower's error 2"),
        (to_nobody, "another message"),
        (
            lambda message: Message(write_failure("another model"), reply_to=message),
            "another model",
        ),
    ],
)
def test_a_node_that_fails_is_named_with_the_reason_and_others_go_on(
    answer: Answer, reason: str
) -> None:
    """And what an error says of paths and prompts goes nowhere."""
    found = ask(grid_of({5: answer}))
    assert list(found.replies) == [7, 9]
    (refusal,) = found.refusals
    assert refusal.node == 5
    assert reason in refusal.reason
    assert "ada" not in refusal.reason


def test_a_node_that_does_not_reply_in_time_is_named() -> None:
    """The others' replies are not waited for any longer than that."""
    found = ask(grid_of({}, Lossy), timeout=0.3)
    assert list(found.replies) == [7, 5]
    assert [(each.node, each.reason) for each in found.refusals] == [
        (9, "it did not reply within 0.3 s")
    ]


def test_nobody_can_answer_for_another_node() -> None:
    """A reply to another node's message counts against its sender alone."""
    numbers: dict[int, str] = {}

    def noted(message: Message) -> Message:
        numbers[message.metadata.dst_node_id] = message.metadata.message_id
        return honest(message)

    def forged(message: Message) -> Message:
        reply = honest(message)
        reply.metadata.__dict__["_reply_to_message_id"] = numbers[7]
        return reply

    found = ask(grid_of({7: noted, 5: forged}))
    assert list(found.replies) == [7, 9]
    assert found.replies[7].content.metric_records["metrics"]["node"] == 7
    assert [refusal.node for refusal in found.refusals] == [5]


def test_a_stranger_is_not_listened_to(caplog: pytest.LogCaptureFixture) -> None:
    """A reply from a node that was not asked is none."""

    def stranger(message: Message) -> Message:
        reply = honest(message)
        reply.metadata.__dict__["_src_node_id"] = 1234
        return reply

    found = ask(grid_of({5: stranger}), timeout=0.3)
    assert list(found.replies) == [7, 9]
    assert [refusal.node for refusal in found.refusals] == [5]
    assert "nobody waits for" in caplog.text


def test_all_nodes_are_asked_to_forget(caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot is only logged: the run is over."""
    asked: list[tuple[int, str]] = []

    def note(message: Message) -> Message:
        asked.append((message.metadata.dst_node_id, message.metadata.message_type))
        return honest(message)

    with caplog.at_level(logging.WARNING):
        forget(grid_of({7: note, 5: broken, 9: note}), timeout=30.0)
    assert asked == [(7, "query.forget"), (9, "query.forget")]
    assert "node 5 keeps its targets" in caplog.text
