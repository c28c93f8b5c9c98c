"""A simulation with fewer nodes than parties: each node represents several.

Flower simulates two nodes by default; the scenario sets the number of parties. Each
party stays separate, with its own messages, requests and statistics.
"""

import logging
import time
from collections.abc import Iterable

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

SIMULATION = "InMemoryGrid"
"""The class of the grid in Flower's simulation; no public name identifies it."""

SETTLING_SECONDS = 5.0
POLL_SECONDS = 0.1
FIRST_PARTY = 1_000_000


def seat_parties(grid: Grid, parties: int) -> Grid:
    """Share the parties among a simulation's nodes if there are too few nodes."""
    if type(grid).__name__ != SIMULATION:
        return grid
    deadline = time.monotonic() + SETTLING_SECONDS
    while len(nodes := sorted(grid.get_node_ids())) < parties:
        if nodes and time.monotonic() > deadline:
            log(logging.INFO, "%d nodes represent %d parties", len(nodes), parties)
            return SharedNodes(grid, nodes, parties)
        time.sleep(POLL_SECONDS)
    return grid


class SharedNodes(Grid):
    """A grid with one node a party, each carried by one of fewer real nodes."""

    def __init__(self, grid: Grid, nodes: list[int], parties: int) -> None:
        """Deal `parties` out to `nodes` in turn."""
        self._grid = grid
        self._carriers = {
            FIRST_PARTY + party: nodes[party % len(nodes)] for party in range(parties)
        }
        self._asked: dict[str, int] = {}

    def set_run(self, run: object) -> None:
        """The grid beneath knows its run."""

    @property
    def run(self) -> object:  # type: ignore[override]
        """The run of the grid beneath."""
        return self._grid.run

    def create_message(self, *_: object, **__: object) -> Message:
        """Messages are made by their class.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("make messages with flwr.app.Message")

    def get_node_ids(self) -> Iterable[int]:
        """One number a party."""
        return list(self._carriers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send each message to its party's carrier, with the party's place in it."""
        given = list(messages)
        sent = [self._redirect(message) for message in given]
        numbers = list(self._grid.push_messages(sent))
        for message, number in zip(given, numbers, strict=True):
            # As Flower's own grids do, so that a sender finds the reply.
            message.metadata.__dict__["_message_id"] = number
            self._asked[number] = message.metadata.dst_node_id
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over replies, each under its party's number."""
        replies = list(self._grid.pull_messages(list(message_ids)))
        for reply in replies:
            party = self._asked[reply.metadata.reply_to_message_id]
            reply.metadata.__dict__["_src_node_id"] = party
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, then pull until all replies are there or the time is over."""
        waiting = list(self.push_messages(messages))
        deadline = time.monotonic() + (timeout or float("inf"))
        replies: list[Message] = []
        while len(replies) < len(waiting) and time.monotonic() < deadline:
            replies += self.pull_messages(waiting)
            time.sleep(POLL_SECONDS)
        return replies

    def _redirect(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        place = ConfigRecord({"place": node - FIRST_PARTY})
        return Message(
            RecordDict({**message.content, "party": place}),
            dst_node_id=self._carriers[node],
            message_type=message.metadata.message_type,
            group_id=message.metadata.group_id,
            ttl=message.metadata.ttl,
        )
