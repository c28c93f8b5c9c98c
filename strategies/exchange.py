"""One exchange: messages out, replies back, each put down to its node."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError

from strategies.messages import Phase, read_failure

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""How often replies are asked for while some are missing."""


PATIENCE_SECONDS = 10.0
"""How long parties are waited for before the log says so."""


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


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """What one exchange with one node took.

    Attributes:
        phase: The message type.
        round: Counted from 1; 0 is before any edit.
        node: Flower's number of the node.
        party: The party that it speaks for; −1 while nobody knows.
        seconds: From the sending of the message to its reply, or to the end of waiting.
        bytes_down: Content of the message.
        bytes_up: Content of the reply; 0 if none came.
        outcome: ``ok``, or why the party goes on no further; nothing private.
    """

    phase: str
    round: int
    node: int
    party: int
    seconds: float
    bytes_down: int
    bytes_up: int
    outcome: str


OnExchange = Callable[[ExchangeRecord], None]
"""Told what each exchange with each node took."""


def await_nodes(grid: Grid, count: int, timeout: float) -> list[int]:
    """Wait until so many nodes are there, and number them in ascending order.

    Raises:
        AggregationError: If they do not come in time.
    """
    started, silent = time.monotonic(), True
    while len(found := sorted(grid.get_node_ids())) < count:
        waited = time.monotonic() - started
        if waited > timeout:
            raise AggregationError(
                f"{count} parties were expected and {len(found)} came within "
                f"{timeout:g} s. Start the others, or lower `parties.count`."
            )
        if silent and waited > PATIENCE_SECONDS:
            silent = False
            logger.warning(
                "waiting for %d parties, %d are there; a simulation makes as many as "
                "`--federation-config 'num-supernodes=%d'` says",
                count,
                len(found),
                count,
            )
        time.sleep(POLL_SECONDS)
    return found


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
    # Pushing has given each message its number.
    asked = {m.metadata.message_id: m.metadata.dst_node_id for m in messages}
    found: dict[int, Message] = {}
    deadline = time.monotonic() + timeout
    while len(found) < len(asked):
        waiting = [number for number, node in asked.items() if node not in found]
        arrived = list(grid.pull_messages(waiting))
        for reply in arrived:
            _put_down(reply, asked, found)
        if arrived and on_reply is not None:
            on_reply(len(found))
        if time.monotonic() > deadline:
            break
        if len(found) < len(asked):
            time.sleep(POLL_SECONDS)
    return _sort(messages, found, timeout)


def forget(grid: Grid, timeout: float) -> None:
    """Have all nodes remove the run's targets; what goes wrong is only logged.

    The run is over by then: a node that is gone keeps what its owner may remove.
    """
    messages = [
        Message(
            RecordDict(), dst_node_id=node, message_type=Phase.FORGET.value, ttl=timeout
        )
        for node in sorted(grid.get_node_ids())
    ]
    for refusal in exchange(grid, messages, timeout).refusals:
        logger.warning("node %d keeps its targets: %s", refusal.node, refusal.reason)


def _put_down(
    reply: Message, asked: Mapping[str, int], found: dict[int, Message]
) -> None:
    """File a reply under its node; the first one counts, and strangers' none."""
    node: int | None = reply.metadata.src_node_id
    if reply.has_error():
        # A node that is gone is answered for by the link, under the link's own number;
        # only the number of the message tells whose reply it is.
        node = asked.get(reply.metadata.reply_to_message_id)
    if node is None or node not in asked.values() or node in found:
        logger.warning("a reply that nobody waits for was left aside")
    else:
        found[node] = reply


def _sort(
    messages: Sequence[Message], found: Mapping[int, Message], timeout: float
) -> Exchanged:
    replies: dict[int, Message] = {}
    refusals: list[Refusal] = []
    for message in messages:
        node = message.metadata.dst_node_id
        reason = _reason(message, found.get(node), timeout)
        if reason is None:
            replies[node] = found[node]
        else:
            refusals.append(Refusal(node, reason))
    return Exchanged(replies, refusals)


def _reason(message: Message, reply: Message | None, timeout: float) -> str | None:
    if reply is None:
        return f"it did not reply within {timeout:g} s"
    if reply.metadata.reply_to_message_id != message.metadata.message_id:
        return "it answered another message"
    if reply.has_error():
        # The text of an error may hold paths or prompts of the party: only its number.
        return f"it failed with Flower's error {reply.error.code}"
    failure = read_failure(reply.content)
    return None if failure is None else f"it reported {failure}"
