"""One exchange: messages out, replies back, one reply from each node."""

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError

from strategies.rounds.spool import GroupSize, Spool
from strategies.wire.failures import MISSING_UPDATES, read_failed_name, read_failure
from strategies.wire.messages import Phase
from strategies.wire.replies import count_array_bytes, count_bytes, cut_reply

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""The shortest interval between two looks for replies."""

LONGEST_POLL_SECONDS = 0.5
"""The longest."""

PATIENCE = 0.05
"""The interval as a share of the time that the exchange has taken so far."""

EMPTY_PULLS = 2
"""Pulls in a row without a reply after which a look for replies ends."""

GARBAGE_BYTES = 4_000_000
"""Bytes of replies that may wait for Python's collector of reference cycles."""

QUIET_SECONDS = 10.0
"""Seconds of waiting after which the log names the missing parties."""

UNREACHABLE = "it cannot be reached: it was stopped, or its machine or network failed"
"""The reason for a node that Flower has not heard from; it may come back."""

ERRORS = {
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION: (
        "its client could not be loaded, or its operator has not approved this version "
        "of the app"
    ),
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION: "its client failed",
    ErrorCode.NODE_UNAVAILABLE: UNREACHABLE,
    ErrorCode.MOD_FAILED_PRECONDITION: "its client failed",
    ErrorCode.CLIENT_APP_CRASHED: "its client process was killed (out of memory?)",
}
"""The reason for each of Flower's error codes."""

EXPIRED = {ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE}
"""Error codes of messages whose time to live is over."""

OTHER_ERROR = "it failed with Flower's error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A party that is left out of the rest of a round.

    Attributes:
        node: Flower's number of the node.
        reason: Why; it quotes nothing private.
        name: What log and report call the party.
    """

    node: int
    reason: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """What one exchange with one node took.

    Attributes:
        phase: The message type.
        round: Counted from 1; 0 is before any edit.
        node: Flower's number of the node.
        party: The party's number; −1 if it is not known.
        seconds: From sending the message to its reply, or to the end of waiting.
        bytes_down: Size of the message's content.
        bytes_up: Size of the reply's content; 0 if there was no reply.
        outcome: ``ok``, or why the party is left out; it quotes nothing private.
        name: What log and report call the party.
    """

    phase: str
    round: int
    node: int
    party: int
    seconds: float
    bytes_down: int
    bytes_up: int
    outcome: str
    name: str = ""


def await_nodes(
    grid: Grid, count: int, timeout: float, enough: int, patience: float
) -> list[int]:
    """Wait until `count` nodes are connected, and return them in ascending order.

    Args:
        grid: Flower's connection to the nodes.
        count: How many nodes are expected.
        timeout: Seconds to wait before the run fails.
        enough: How many suffice after `patience` seconds.
        patience: Seconds to wait for all of them.

    Raises:
        AggregationError: If they do not come in time.
    """
    started, silent = time.monotonic(), True
    while len(found := sorted(grid.get_node_ids())) < count:
        waited = time.monotonic() - started
        if waited > patience and len(found) >= enough:
            break
        if waited > timeout:
            begun = "" if enough < count else ", or lower `parties.count`"
            raise AggregationError(
                f"{enough} parties were expected and {len(found)} came within "
                f"{timeout:g} s. Start the others{begun}."
            )
        if silent and waited > QUIET_SECONDS:
            silent = False
            logger.warning(
                "waiting for %d parties (`parties.count`), %d are connected: start the "
                "others. In a simulation, set "
                "`--federation-config 'num-supernodes=%d'`",
                count,
                len(found),
                count,
            )
        time.sleep(POLL_SECONDS)
    return found


@dataclass(frozen=True, slots=True)
class Arrival:
    """The result of sending one message: a reply, or the reason why there is none.

    Attributes:
        message: The last message that the node was sent.
        seconds: From the first sending to the reply, or to the end of waiting.
        reply: The node's answer, unless it failed.
        reason: Why there is no answer; it quotes nothing private.
        failure: The class of failure that the client reported, if it reported one.
        name: The party's name, if it came with a failure.
    """

    message: Message
    seconds: float
    reply: Message | None = None
    reason: str | None = None
    failure: str | None = None
    name: str = ""

    @property
    def node(self) -> int:
        """The node's number."""
        return self.message.metadata.dst_node_id


Resend = Callable[[int], Message]
"""Writes the message to a node again, with all updates that it may lack."""

Most = Callable[[int], float]
"""The most bytes that a node's reply may have."""


def exchange(
    grid: Grid,
    messages: Sequence[Message],
    timeout: float,
    on_reply: Callable[[int], None] | None = None,
    resend: Resend | None = None,
    label: Callable[[int], str] = str,
    most: Most = lambda _: math.inf,
) -> Iterator[Arrival]:
    """Send messages, one a node, and yield the result of each, in their order.

    One reply is in memory at a time, or a group of replies that are small together
    (`GroupSize`), so a caller that adds replies up and drops them needs no more memory
    for many parties than for few. Replies that come before their turn wait on disk, and
    not with Flower, which deletes a reply once its message's time to live is over.

    Args:
        grid: Flower's connection to the nodes.
        messages: In the order in which replies are to be summed.
        timeout: Seconds to wait.
        on_reply: Called with the number of replies received so far.
        resend: Called once for a node that lacks updates it was thought to hold.
        label: Returns what the log calls a node.
        most: A longer reply is refused before it is kept or decoded.
    """
    nodes = [message.metadata.dst_node_id for message in messages]
    assert len(set(nodes)) == len(nodes)
    with Spool() as spool:
        post = Post(grid, spool, timeout, on_reply, resend, label, most)
        post.push(messages)
        dropped = 0
        for node in nodes:
            arrival = post.wait_for(node)
            dropped += count_bytes(arrival.reply)
            yield arrival
            del arrival
            if dropped > GARBAGE_BYTES:
                # Flower's records hold reference cycles.
                gc.collect()
                dropped = 0


class Post:
    """Messages that were sent, and replies that were received."""

    def __init__(
        self,
        grid: Grid,
        spool: Spool,
        timeout: float,
        on_reply: Callable[[int], None] | None,
        resend: Resend | None,
        label: Callable[[int], str],
        most: Most,
    ) -> None:
        """Start without any message."""
        self._grid, self._spool, self._timeout = grid, spool, timeout
        self._on_reply, self._resend, self._label = on_reply, resend, label
        self._most = most
        self._too_long: dict[int, str] = {}
        self._started = time.monotonic()
        self._looked = -math.inf
        self._sent: dict[int, Message] = {}
        # In the order in which they are looked for.
        self._waiting: dict[str, int] = {}
        self._size = GroupSize()
        self._seconds: dict[int, float] = {}
        self._resent: set[int] = set()

    def push(self, messages: Sequence[Message]) -> None:
        """Send messages; the grid gives each its id."""
        if not messages:
            return
        self._grid.push_messages(messages)
        for message in messages:
            node = message.metadata.dst_node_id
            self._sent[node] = message
            self._waiting[message.metadata.message_id] = node

    def wait_for(self, node: int) -> Arrival:
        """Wait until a node has replied, or until the timeout of the exchange."""
        self._await(node)
        message = self._sent[node]
        late = f"it did not reply within {self._timeout:g} s"
        if node not in self._spool:
            seconds = time.monotonic() - self._started
            return Arrival(message, seconds, reason=late)
        reply, seconds = self._spool.take(node), self._seconds[node]
        reason = self._too_long.get(node) or explain_invalid(reply, late)
        if reason is None:
            return Arrival(message, seconds, reply)
        if reply.has_error() or node in self._too_long:
            return Arrival(message, seconds, reason=reason)
        failure, name = read_failure(reply.content), read_failed_name(reply.content)
        return Arrival(message, seconds, reason=reason, failure=failure, name=name)

    def _await(self, node: int) -> None:
        """Look for replies until the node's is there, or until the timeout.

        While nodes are there already, looks become rarer, but do not end: Flower keeps
        no reply for ever.
        """
        over = False
        while node not in self._spool or self._pause() == 0:
            time.sleep(0 if over else self._pause())
            over = time.monotonic() > self._started + self._timeout
            if not self._look(node, whole=over) and over:
                return

    def _pause(self) -> float:
        """Return the seconds until the next look, 5 % of the exchange so far."""
        now = time.monotonic()
        wanted = PATIENCE * (now - self._started)
        wait = min(max(POLL_SECONDS, wanted), LONGEST_POLL_SECONDS)
        return max(self._looked + wait - now, 0.0)

    def _look(self, wanted: int, *, whole: bool) -> bool:
        """Pull the replies that are there, in groups; return whether there was one.

        What is not there yet costs a call for each group, so a look gives up after some
        that were empty, and the next one begins there. The one wanted is pulled
        last, because it stays in memory.

        Args:
            wanted: The node whose reply is waited for.
            whole: Whether to ask for all, however many calls are empty.
        """
        last = [number for number, node in self._waiting.items() if node == wanted]
        left = [number for number in self._waiting if number not in last]
        found, empty = False, 0
        while left and (whole or empty < EMPTY_PULLS):
            group, left = left[: self._size.most], left[self._size.most :]
            if not left and len(group) + len(last) <= self._size.most:
                group, last = group + last, []
            came = self._pull(group, wanted)
            found, empty = found or came, 0 if came else empty + 1
        if last:
            found |= self._pull(last, wanted)
        self._looked = time.monotonic()
        return found

    def _pull(self, group: Sequence[str], wanted: int) -> bool:
        """Pull the replies to some messages; return whether there was one.

        Those that are not there are looked for again after all others.
        """
        found = False
        for reply in self._grid.pull_messages(group):
            self._size.note(count_array_bytes(reply))
            found |= self._accept(reply, wanted)
        for number in group:
            if number in self._waiting:
                self._waiting[number] = self._waiting.pop(number)
        return found

    def _accept(self, reply: Message, wanted: int) -> bool:
        """Keep the first reply to a message, if it is from the node it was sent to."""
        node = self._waiting.get(reply.metadata.reply_to_message_id)
        # The SuperLink answers for a node that is gone, under a number of its own.
        own = reply.has_error() or reply.metadata.src_node_id == node
        if node is None or not own:
            logger.warning(
                "ignored an unexpected reply of %s",
                self._label(reply.metadata.src_node_id),
            )
            return False
        del self._waiting[reply.metadata.reply_to_message_id]
        if self._send_again(node, reply):
            return False
        self._seconds[node] = time.monotonic() - self._started
        if (reason := cut_reply(reply, self._most(node))) is not None:
            self._too_long[node] = reason
        self._spool.put(node, reply, at_once=node == wanted)
        if self._on_reply is not None:
            self._on_reply(len(self._seconds))
        return True

    def _send_again(self, node: int, reply: Message) -> bool:
        """Send a node all updates, once, if it reports that it lacks some."""
        if self._resend is None or node in self._resent or reply.has_error():
            return False
        if read_failure(reply.content) != MISSING_UPDATES:
            return False
        logger.info("%s lacks updates, and is sent all of them", self._label(node))
        self._resent.add(node)
        self.push([self._resend(node)])
        return True


def explain_invalid(reply: Message, late: str) -> str | None:
    """Explain why a reply is invalid; None if it is valid.

    Args:
        reply: What came back.
        late: The reason for a node that did not reply in time.
    """
    if reply.has_error():
        # An error's text may quote paths or prompts of the party, so it is not used.
        code = reply.error.code
        return late if code in EXPIRED else ERRORS.get(code, f"{OTHER_ERROR} {code}")
    failure = read_failure(reply.content)
    return None if failure is None else f"it reported {failure}"


def forget(grid: Grid, timeout: float) -> None:
    """Ask all nodes to remove their private files of the run; failures are only logged.

    A node that is gone by then keeps them until its owner removes them.
    """
    messages = [
        Message(
            RecordDict(), dst_node_id=node, message_type=Phase.FORGET.value, ttl=timeout
        )
        for node in sorted(grid.get_node_ids())
    ]
    for number, arrival in enumerate(exchange(grid, messages, timeout), start=1):
        if arrival.reason is not None:
            logger.warning(
                "party %d of %d keeps its targets: %s",
                number,
                len(messages),
                arrival.reason,
            )
