"""One exchange: messages out, replies back, each put down to its node."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError

from strategies.rounds.spool import IN_MEMORY_BYTES, Spool
from strategies.wire.messages import LACKING, Phase, read_failure

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""How often replies are asked for while some are missing, at first."""

POLL_AT_MOST_SECONDS = 0.5
"""And after a while; an exchange that takes long is not asked about all the time."""

PATIENCE_SECONDS = 10.0
"""How long parties are waited for before the log says so."""


UNREACHABLE = "it cannot be reached: it was stopped, or its machine or network failed"
"""What is said of a node that Flower has not heard from; it may come back."""

ERRORS = {
    ErrorCode.LOAD_CLIENT_APP_EXCEPTION: "its client could not be loaded",
    ErrorCode.CLIENT_APP_RAISED_EXCEPTION: "its client failed",
    ErrorCode.NODE_UNAVAILABLE: UNREACHABLE,
    ErrorCode.MOD_FAILED_PRECONDITION: "its client failed",
    ErrorCode.CLIENT_APP_CRASHED: "its client process was killed (out of memory?)",
}
"""What Flower's errors say of a node, by their numbers."""

EXPIRED = {ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE}
"""Errors of messages whose time is over."""

OTHER_ERROR = "it failed with Flower's error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A party that goes on no further, and why; the reason names nothing private."""

    node: int
    reason: str


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


def await_nodes(
    grid: Grid, count: int, timeout: float, enough: int, patience: float
) -> list[int]:
    """Wait until so many nodes are there, and number them in ascending order.

    Args:
        grid: Flower's way to the nodes.
        count: How many are expected.
        timeout: Seconds to wait for them.
        enough: How many will do once patience is over.
        patience: For how many seconds all of them are waited for.

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
        if silent and waited > PATIENCE_SECONDS:
            silent = False
            logger.warning(
                "waiting for %d parties (`parties.count`), %d are there: start the "
                "others. A simulation makes as many as "
                "`--federation-config 'num-supernodes=%d'` says",
                count,
                len(found),
                count,
            )
        time.sleep(POLL_SECONDS)
    return found


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of the message to one node: a reply, or the reason why there is none.

    Attributes:
        message: The last one that the node was sent.
        seconds: From the first sending to the reply, or to the end of waiting.
        reply: What the node answered, unless it failed.
        reason: Why the party goes on no further; nothing private.
    """

    message: Message
    seconds: float
    reply: Message | None = None
    reason: str | None = None

    @property
    def node(self) -> int:
        """Whose it is."""
        return self.message.metadata.dst_node_id


Resend = Callable[[int], Message]
"""Writes the message to a node again, with all that it may lack."""


def exchange(
    grid: Grid,
    messages: Sequence[Message],
    timeout: float,
    on_reply: Callable[[int], None] | None = None,
    resend: Resend | None = None,
) -> Iterator[Arrival]:
    """Send messages, one a node, and give what becomes of each, in their order.

    One reply is in memory at a time: whoever adds them up and drops them needs as much
    for many parties as for few. Replies that come before their turn wait on disk, and
    not with Flower, which forgets a reply once its message's time is over.

    Args:
        grid: Flower's way to the nodes.
        messages: In the order in which replies shall be summed.
        timeout: Seconds to wait.
        on_reply: Told the number of replies that are there.
        resend: Asked once for a node that lacks updates which it was thought to hold.
    """
    nodes = [message.metadata.dst_node_id for message in messages]
    assert len(set(nodes)) == len(nodes)
    with Spool() as spool:
        post = Post(grid, spool, timeout, on_reply, resend)
        post.push(messages)
        for node in nodes:
            arrival = post.wait_for(node)
            large = count_bytes(arrival.reply) > IN_MEMORY_BYTES
            yield arrival
            del arrival
            if large:
                # Flower's records refer to themselves, so they do not go by themselves.
                gc.collect()


class Post:
    """Messages under way, and replies that are there."""

    def __init__(
        self,
        grid: Grid,
        spool: Spool,
        timeout: float,
        on_reply: Callable[[int], None] | None,
        resend: Resend | None,
    ) -> None:
        """Begin with none."""
        self._grid, self._spool, self._timeout = grid, spool, timeout
        self._on_reply, self._resend = on_reply, resend
        self._started = time.monotonic()
        self._sent: dict[int, Message] = {}
        self._waiting: dict[str, int] = {}
        self._seconds: dict[int, float] = {}
        self._resent: set[int] = set()

    def push(self, messages: Sequence[Message]) -> None:
        """Send messages; pushing gives each its number."""
        if not messages:
            return
        self._grid.push_messages(messages)
        for message in messages:
            node = message.metadata.dst_node_id
            self._sent[node] = message
            self._waiting[message.metadata.message_id] = node

    def wait_for(self, node: int) -> Arrival:
        """Wait until a node has replied, or for as long as all of them have."""
        pause = POLL_SECONDS
        while True:
            over = time.monotonic() > self._started + self._timeout
            found = self._collect(node)
            if node in self._spool or (over and not found):
                break
            if found:
                pause = POLL_SECONDS
            else:
                time.sleep(pause)
                pause = min(1.1 * pause, POLL_AT_MOST_SECONDS)
        message = self._sent[node]
        late = f"it did not reply within {self._timeout:g} s"
        if node not in self._spool:
            seconds = time.monotonic() - self._started
            return Arrival(message, seconds, reason=late)
        reply, seconds = self._spool.take(node), self._seconds[node]
        failed = reason_of(reply, late)
        if failed is not None:
            return Arrival(message, seconds, reason=failed)
        return Arrival(message, seconds, reply)

    def _collect(self, wanted: int) -> bool:
        """Take all replies that are there, one at a time; tells whether there was one.

        The one wanted comes last, because it stays in memory.
        """
        found = False
        waiting = sorted(self._waiting, key=lambda each: self._waiting[each] == wanted)
        for number in waiting:
            for reply in self._grid.pull_messages([number]):
                found |= self._put_down(reply, wanted)
        return found

    def _put_down(self, reply: Message, wanted: int) -> bool:
        """File a reply under its node; the first one counts, and no other's."""
        node = self._waiting.get(reply.metadata.reply_to_message_id)
        # A node that is gone is answered for by the link, under the link's own number.
        own = reply.has_error() or reply.metadata.src_node_id == node
        if node is None or not own:
            logger.warning(
                "a reply that nobody waits for was left aside, of node %d",
                reply.metadata.src_node_id,
            )
            return False
        del self._waiting[reply.metadata.reply_to_message_id]
        if self._send_again(node, reply):
            return False
        self._seconds[node] = time.monotonic() - self._started
        self._spool.put(node, reply, at_once=node == wanted)
        if self._on_reply is not None:
            self._on_reply(len(self._seconds))
        return True

    def _send_again(self, node: int, reply: Message) -> bool:
        """Give a node what it lacks, once."""
        if self._resend is None or node in self._resent or reply.has_error():
            return False
        if read_failure(reply.content) != LACKING:
            return False
        logger.info("node %d lacks updates, and is sent all of them", node)
        self._resent.add(node)
        self.push([self._resend(node)])
        return True


def count_bytes(message: Message | None) -> int:
    """Bytes of all values in a message's content; none of no message."""
    if message is None:
        return 0
    return sum(record.count_bytes() for record in message.content.values())


def reason_of(reply: Message, late: str) -> str | None:
    """Say why a reply is none; nothing if it is one.

    Args:
        reply: What came back.
        late: What is said of a node that has not replied in time.
    """
    if reply.has_error():
        # The text of an error may hold paths or prompts of the party: only its number.
        code = reply.error.code
        return late if code in EXPIRED else ERRORS.get(code, f"{OTHER_ERROR} {code}")
    failure = read_failure(reply.content)
    return None if failure is None else f"it reported {failure}"


def forget(grid: Grid, timeout: float) -> None:
    """Have all nodes remove what they keep of the run; failures are only logged.

    The run is over by then: a node that is gone keeps what its owner may remove.
    """
    messages = [
        Message(
            RecordDict(), dst_node_id=node, message_type=Phase.FORGET.value, ttl=timeout
        )
        for node in sorted(grid.get_node_ids())
    ]
    for arrival in exchange(grid, messages, timeout):
        if arrival.reason is not None:
            logger.warning(
                "node %d keeps its targets: %s", arrival.node, arrival.reason
            )
