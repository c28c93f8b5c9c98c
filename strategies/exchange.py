"""One exchange: messages out, replies back, each put down to its node."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from strategies.messages import read_failure

POLL_SECONDS = 0.05
"""How often replies are asked for while some are missing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A party that goes on no further, and why; the reason names nothing private."""

    node: int
    reason: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What came back.

    Attributes:
        replies: By node, in the order in which the messages were given.
        refusals: Nodes that failed, were unreachable or late.
    """

    replies: Mapping[int, Message]
    refusals: Sequence[Refusal]


def exchange(
    grid: Grid,
    messages: Sequence[Message],
    timeout: float,
    on_reply: Callable[[int], None] | None = None,
) -> Exchanged:
    """Send messages, one a node, and wait for the replies.

    Args:
        grid: Flower's way to the nodes.
        messages: In the order in which replies shall be summed.
        timeout: Seconds to wait.
        on_reply: Told the number of replies that are there.
    """
    wanted = {message.metadata.dst_node_id for message in messages}
    assert len(wanted) == len(messages)
    grid.push_messages(messages)
    # A node that is gone is answered for by the link, under the link's own number; only
    # the number of the message tells whose reply it is. Pushing has set it.
    nodes = {m.metadata.message_id: m.metadata.dst_node_id for m in messages}
    found: dict[int, Message] = {}
    deadline = time.monotonic() + timeout
    while nodes and time.monotonic() < deadline:
        arrived = list(grid.pull_messages(list(nodes)))
        for reply in arrived:
            found[nodes.pop(reply.metadata.reply_to_message_id)] = reply
        if arrived and on_reply is not None:
            on_reply(len(found))
        if nodes:
            time.sleep(POLL_SECONDS)
    return _sort(messages, found, timeout)


def _sort(
    messages: Sequence[Message], found: Mapping[int, Message], timeout: float
) -> Exchanged:
    replies: dict[int, Message] = {}
    refusals: list[Refusal] = []
    for message in messages:
        node = message.metadata.dst_node_id
        reason = _reason(found.get(node), timeout)
        if reason is None:
            replies[node] = found[node]
        else:
            refusals.append(Refusal(node, reason))
    return Exchanged(replies, refusals)


def _reason(reply: Message | None, timeout: float) -> str | None:
    if reply is None:
        return f"it did not reply within {timeout:g} s"
    if reply.has_error():
        # The text of an error may hold paths or prompts of the party: only its number.
        return f"it failed with Flower's error {reply.error.code}"
    failure = read_failure(reply.content)
    return None if failure is None else f"it reported {failure}"
