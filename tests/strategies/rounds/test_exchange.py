"""Every message gets its reply or a refusal, put down to the right node."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict

from sims.runs.in_process import LINK_NODE, InProcessGrid
from strategies.rounds.exchange import Arrival, Resend, exchange, forget
from strategies.rounds.spool import GROUP_BYTES
from strategies.wire.failures import MISSING_UPDATES, write_failure
from strategies.wire.messages import Phase
from tests.strategies.transport import write_numbers

NODES = (7, 5, 9)

Answer = Callable[[Message], Message]


def honest(message: Message) -> Message:
    """Say which node was asked."""
    node = float(message.metadata.dst_node_id)
    return Message(
        RecordDict({"targets": write_numbers({"node": node})["metrics"]}),
        reply_to=message,
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


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What became of all messages."""

    arrivals: Sequence[Arrival]

    @property
    def replies(self) -> dict[int, Message]:
        """Of those that did reply."""
        return {a.node: a.reply for a in self.arrivals if a.reply is not None}

    @property
    def refusals(self) -> list[tuple[int, str]]:
        """Of those that did not: node and reason."""
        return [(a.node, str(a.reason)) for a in self.arrivals if a.reply is None]


def ask(
    grid: InProcessGrid,
    timeout: float = 30.0,
    on_reply: Callable[[int], None] | None = None,
    resend: Resend | None = None,
) -> Exchanged:
    """Ask all nodes, in the order of `NODES`."""
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type=Phase.TARGETS.value)
        for node in NODES
    ]
    return Exchanged(list(exchange(grid, messages, timeout, on_reply, resend)))


def test_replies_keep_the_order_of_the_messages_however_they_arrive() -> None:
    """Sums depend on the order of their terms."""
    found = ask(grid_of({}, OneByOne))
    assert list(found.replies) == list(NODES)
    assert list(found.refusals) == []
    for node, reply in found.replies.items():
        assert reply.content.metric_records["targets"]["node"] == node


def test_the_number_of_replies_is_reported_as_they_arrive() -> None:
    """A bar on the terminal grows."""
    numbers_seen: list[int] = []
    ask(grid_of({}, OneByOne), on_reply=numbers_seen.append)
    assert numbers_seen == [1, 2, 3]


def by_the_link(message: Message) -> Message:
    """Answer for a node that is gone, as Flower's link does: under its own number."""
    reply = Message(Error(5, "node 5 of /home/ada is gone"), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = LINK_NODE
    return reply


def broken(_: Message) -> Message:
    """Raise what a client may raise."""
    raise ValueError("/home/ada/requests.json")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (by_the_link, "cannot be reached"),
        (broken, "its client failed"),
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
    ((node, why),) = found.refusals
    assert node == 5
    assert reason in why
    assert "ada" not in why


def test_a_node_that_does_not_reply_in_time_is_named() -> None:
    """The others' replies are not waited for any longer than that."""
    found = ask(grid_of({}, Lossy), timeout=0.3)
    assert list(found.replies) == [7, 5]
    assert found.refusals == [(9, "it did not reply within 0.3 s")]


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

    found = ask(grid_of({7: noted, 5: forged}), timeout=0.3)
    assert list(found.replies) == [7, 9]
    assert found.replies[7].content.metric_records["targets"]["node"] == 7
    assert [node for node, _ in found.refusals] == [5]


def test_a_stranger_is_not_listened_to(caplog: pytest.LogCaptureFixture) -> None:
    """A reply from a node that was not asked is none."""

    def stranger(message: Message) -> Message:
        reply = honest(message)
        reply.metadata.__dict__["_src_node_id"] = 1234
        return reply

    found = ask(grid_of({5: stranger}), timeout=0.3)
    assert list(found.replies) == [7, 9]
    assert [node for node, _ in found.refusals] == [5]
    assert "ignored an unexpected reply of 1234" in caplog.text


def to_nobody(message: Message) -> Message:
    """Answer a message that was never sent."""
    reply = honest(message)
    reply.metadata.__dict__["_reply_to_message_id"] = "another"
    return reply


def test_an_answer_to_another_message_is_left_aside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that was sent before, or twice, is no reply to this one; the right one is."""
    found = ask(grid_of({5: to_nobody}), timeout=0.3)
    assert list(found.replies) == [7, 9]
    assert found.refusals == [(5, "it did not reply within 0.3 s")]
    assert "ignored an unexpected reply of 5" in caplog.text


class Repeating(InProcessGrid):
    """A grid that gives every reply twice."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over each reply, and once more."""
        return [each for each in super().pull_messages(message_ids) for _ in range(2)]


def test_a_reply_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it comes."""
    found = ask(grid_of({}, Repeating))
    assert list(found.replies) == list(NODES)
    assert caplog.text.count("ignored an unexpected reply") == len(NODES)


def test_a_node_that_lacks_updates_is_sent_all_once() -> None:
    """If it lacks them still, it goes on no further."""
    asked: list[str] = []

    def lacking(message: Message) -> Message:
        asked.append(message.metadata.message_type)
        whole = message.metadata.message_type == Phase.EVALUATE.value
        if whole and message.metadata.dst_node_id == 7:
            return honest(message)
        return Message(write_failure(MISSING_UPDATES), reply_to=message)

    def resend(node: int) -> Message:
        return Message(
            RecordDict(), dst_node_id=node, message_type=Phase.EVALUATE.value
        )

    found = ask(grid_of({7: lacking, 5: lacking}), resend=resend)
    assert list(found.replies) == [7, 9]
    assert found.refusals == [(5, f"it reported {MISSING_UPDATES}")]
    assert len(asked) == 4


class Forgetful(InProcessGrid):
    """A grid that forgets replies once their messages' time is over, as Flower does."""

    sent = 0.0
    most = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Note when they were sent."""
        self.sent = time.monotonic()
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over what is there in time, and note how much at once."""
        found = list(super().pull_messages(message_ids))
        self.most = max(self.most, len(found))
        return found if time.monotonic() < self.sent + 0.2 else []


def test_no_reply_is_late_because_another_one_takes_long_to_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that are there are taken before the first is given, large ones one by one."""
    monkeypatch.setattr("strategies.rounds.spool.GROUP_BYTES", 1)
    grid = grid_of({}, Forgetful)
    assert isinstance(grid, Forgetful)
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type=Phase.TARGETS.value)
        for node in NODES
    ]
    nodes = []
    for arrival in exchange(grid, messages, 0.2):
        assert arrival.reply is not None
        nodes.append(arrival.node)
        time.sleep(0.3)
    assert nodes == list(NODES)
    assert grid.most == 1


def test_all_nodes_are_asked_to_forget(caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot is only logged: the run is over."""
    asked: list[tuple[int, str]] = []

    def note(message: Message) -> Message:
        asked.append((message.metadata.dst_node_id, message.metadata.message_type))
        return honest(message)

    with caplog.at_level(logging.WARNING):
        forget(grid_of({7: note, 5: broken, 9: note}), timeout=30.0)
    assert asked == [(7, "query.forget"), (9, "query.forget")]
    assert "party 1 of 3 keeps its targets" in caplog.text


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the real one in an exchange."""
        self.now = 0.0
        monkeypatch.setattr("strategies.rounds.exchange.time", self)

    def monotonic(self) -> float:
        """Return the seconds that were slept."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.now += seconds


class Trickle(InProcessGrid):
    """A grid of many nodes whose replies come evenly over some seconds.

    Attributes:
        calls: Number of replies that each pull brought.
    """

    def __init__(
        self, clock: Clock, order: Sequence[int], seconds: float, numbers: int = 1
    ) -> None:
        """Let nodes reply with so many numbers each, in some order."""
        super().__init__({}, lambda message, _: message)
        place = {node: number for number, node in enumerate(order)}
        self._clock, self._numbers, self.calls = clock, numbers, list[int]()
        self._due = {node: seconds * place[node] / len(order) for node in order}
        self._asked: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Number the messages."""
        for message in messages:
            number = f"message {message.metadata.dst_node_id}"
            message.metadata.__dict__["_message_id"] = number
            self._asked[number] = message
        return list(self._asked)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over what has come by now."""
        found = [
            Message(self._write(), reply_to=self._asked.pop(number))
            for number in list(message_ids)
            if self._due[self._asked[number].metadata.dst_node_id] <= self._clock.now
        ]
        self.calls.append(len(found))
        return found

    def _write(self) -> RecordDict:
        return RecordDict({"a": ArrayRecord([np.zeros(self._numbers, np.float32)])})


def nodes_of(grid: Trickle, count: int) -> list[int]:
    """Ask nodes in order of their numbers, and return who replied, in turn."""
    messages = [
        Message(RecordDict(), dst_node_id=node, message_type=Phase.TARGETS.value)
        for node in range(count)
    ]
    found = exchange(grid, messages, 60.0)
    return [each.node for each in found if each.reply is not None]


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_thousand_replies_in_three_seconds_take_a_hundred_calls(
    shuffled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever order they come; one call for each that waits makes thousands."""
    order = list(range(1000))
    if shuffled:
        np.random.default_rng(0).shuffle(order)
    clock = Clock(monkeypatch)
    grid = Trickle(clock, order, seconds=3.0)
    assert nodes_of(grid, 1000) == list(range(1000))
    assert len(grid.calls) <= 100
    assert clock.now < 3.5


@pytest.mark.training  # for seconds: the replies are large
def test_one_call_brings_no_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies of a third of the bound come one at a time, then three, however many."""
    numbers = GROUP_BYTES // 4 // 3 - 100
    grid = Trickle(Clock(monkeypatch), range(12), seconds=0.0, numbers=numbers)
    assert nodes_of(grid, 12) == list(range(12))
    assert grid.calls[0] == 1
    assert max(grid.calls) == 3
    assert sum(grid.calls) == 12
