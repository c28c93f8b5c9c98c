"""The parties of a run: who was welcome, who is there, and who still takes part."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError

from editing.algebra.statistics import StatisticsError
from strategies.rounds.exchange import (
    POLL_SECONDS,
    UNREACHABLE,
    Arrival,
    ExchangeRecord,
    OnExchange,
    Refusal,
    await_nodes,
    count_bytes,
    exchange,
)
from strategies.rounds.state import RoundOutcome
from strategies.wire.handshakes import check_handshake, read_handshake
from strategies.wire.messages import Job, Phase, write_job
from strategies.wire.updates import read_carried, without_held

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int, int], None]
"""Told of progress: phase, round, replies that are there, replies wanted."""


KEEPING = {Phase.TARGETS, Phase.STATISTICS, Phase.MEMORY, Phase.EVALUATE}
"""What makes a node keep the updates that it is sent."""

RETURN_SECONDS = 90.0
"""How long parties that cannot be reached are waited for if too few are left.

Flower takes a node for gone 38 to 60 s after its last sign of life, and so all of them
after its own link was down; their next sign comes up to 25 s after that.
"""

RETURNS = 3
"""How often a round is begun again with parties that could not be reached before."""

INTRODUCTIONS = 3
"""In how many rounds a node that did not introduce itself is asked to."""

ABSENT = "it was not there when the round began"
"""What is said of a party that took part before; it may come back."""

UNNUMBERED = 1_000_000
"""Nodes without a number come after all parties that have one."""


class TooFewPartiesError(AggregationError):
    """The run cannot go on with the parties that are left."""


class PartyRegistry:
    """Who takes part, and every exchange with them.

    Attributes:
        order: Nodes that were welcome, in the order of their parties.
        places: Each node's party, by which sums are ordered; −1 if it has no number.
        seats: Each node's party, or a number beyond all parties' that it keeps.
        present: Nodes that are there in this round and did not fail in it.
        active: Those of them that still contribute to the round.
        outcomes: What each round came to.
        held: Digests of the updates that each node keeps, as far as is known.
    """

    def __init__(
        self,
        min_parties: int,
        report: Report | None = None,
        on_exchange: OnExchange | None = None,
    ) -> None:
        """Begin with nobody."""
        self.min_parties, self.report = min_parties, report
        self.on_exchange = on_exchange
        self.held: dict[int, frozenset[str]] = {}
        self.order: list[int] = []
        self.places: dict[int, int] = {}
        self.seats: dict[int, int] = {}
        self.present: list[int] = []
        self.active: list[int] = []
        self.outcomes: dict[int, RoundOutcome] = {}
        self._timeout = 0.0
        self._returns = 0
        self._unwelcome: list[Refusal] = []
        self._asked: dict[int, list[int]] = {}

    def welcome(
        self,
        grid: Grid,
        job: Job,
        count: int,
        timeout: float,
        *,
        begun: bool = False,
    ) -> None:
        """Wait for the parties and refuse those that hold another model.

        Args:
            grid: Flower's way to the nodes.
            job: Says which model it is.
            count: How many parties are expected.
            timeout: Seconds to wait for them, and for each reply.
            begun: Whether the run goes on after a round. A party may have left it for
                good by then, so the least number will do if the others do not come.
        """
        self._timeout = timeout
        enough = min(count, self.min_parties) if begun else count
        nodes = await_nodes(grid, count, timeout, enough, RETURN_SECONDS)
        self.outcomes[0], self._unwelcome = RoundOutcome(), []
        self.order, self.places, self.seats, self._asked = [], {}, {}, {}
        self._exchange_handshakes(grid, 0, job, nodes, nodes)
        self.present, self.active = list(self.order), list(self.order)
        self.require_enough(0)

    def begin_round(self, grid: Grid, number: int, job: Job) -> None:
        """Welcome who joined, and do without who left; everybody else is taken back.

        Under `global` one party stands for all. Who was not welcome is missing from
        every round.
        """
        outcome = RoundOutcome(refusals=list(self._unwelcome))
        self.outcomes[number], self._returns = outcome, 0
        there = set(grid.get_node_ids())
        strangers = [node for node in there if self._may_be_asked(node, number)]
        if strangers:
            self._exchange_handshakes(
                grid, number, job, sorted(strangers), sorted(there)
            )
        here = [node for node in self.order if node in there]
        if len(here) < self.min_parties:
            here = self._await_return(grid, self.order, here, self.min_parties)
        if not job.pooled:
            gone = (node for node in self.order if node not in here)
            outcome.refusals += [Refusal(node, ABSENT) for node in gone]
        self.present = here[:1] if job.pooled else here
        self.active = list(self.present)
        self.require_enough(number)

    def address(
        self,
        phase: Phase,
        job: Job,
        delta: ArrayRecord,
        config: ConfigRecord | None = None,
        prior: ArrayRecord | None = None,
        to: Sequence[int] | None = None,
    ) -> list[Message]:
        """Write one message to each node, by default to those that are active."""
        content = write_job(job, delta, config, prior)
        return [
            self._message(phase, job.round, RecordDict({**content}), node)
            for node in (self.active if to is None else to)
        ]

    def exchange(
        self, grid: Grid, number: int, messages: Sequence[Message]
    ) -> Iterator[Message]:
        """Send, wait, and go on without those who failed; replies in their order.

        A reply is given as soon as those before it are, so that it can be dropped
        before the next one is in memory. A node is not sent the updates that it holds.
        Whether enough parties are left is for `require_enough` to say.
        """
        phase = Phase(messages[0].metadata.message_type) if messages else None
        whole = {each.metadata.dst_node_id: each.content for each in messages}
        report = self.report

        def tell(arrived: int) -> None:
            if report is not None and phase is not None:
                report(phase.value, number, arrived, len(messages))

        def resend(node: int) -> Message:
            assert phase is not None
            return self._message(phase, number, whole[node], node)

        for message in messages if phase in KEEPING else ():
            held = self.held.pop(message.metadata.dst_node_id, frozenset())
            message.content = without_held(message.content, held)
        tell(0)
        for arrival in exchange(grid, messages, self._timeout, tell, resend):
            record = self._record(number, arrival)
            if arrival.reply is None:
                self.refuse(number, arrival.node, str(arrival.reason))
            else:
                if phase in KEEPING:
                    carried = read_carried(whole[arrival.node]).values()
                    self.held[arrival.node] = frozenset(carried)
                yield arrival.reply
            del arrival
            self._enter(record)

    def _record(self, number: int, arrival: Arrival) -> ExchangeRecord:
        """Write down what the exchange with one node took."""
        return ExchangeRecord(
            phase=arrival.message.metadata.message_type,
            round=number,
            node=arrival.node,
            party=self.places.get(arrival.node, -1),
            seconds=arrival.seconds,
            bytes_down=count_bytes(arrival.message),
            bytes_up=count_bytes(arrival.reply),
            outcome="ok",
        )

    def _enter(self, record: ExchangeRecord) -> None:
        """Tell of an exchange, once it is known what became of the reply."""
        if self.on_exchange is None:
            return
        node, refusals = record.node, self.outcomes[record.round].refusals
        reasons = [each.reason for each in refusals if each.node == node]
        outcome = reasons[-1] if reasons else "ok"
        party = self.places.get(node, -1)
        self.on_exchange(replace(record, outcome=outcome, party=party))

    def refuse(self, number: int, node: int, reason: str) -> None:
        """Go on without a node for the rest of the round, and say why."""
        logger.warning("round %d goes on without node %d: %s", number, node, reason)
        self.outcomes[number].refuse(Refusal(node, reason))
        self.active = [other for other in self.active if other != node]
        self.present = [other for other in self.present if other != node]

    def count_statistics(self, number: int, reply: Message) -> None:
        """Count the bytes of statistics that a party sent."""
        record = reply.content.array_records.get("statistics", ArrayRecord())
        sent, node = self.outcomes[number].bytes_up, reply.metadata.src_node_id
        size = sum(len(array.data) for array in record.values())
        sent[node] = sent.get(node, 0) + size

    def wait_for_return(self, grid: Grid, number: int) -> bool:
        """Wait for parties that could not be reached; tells whether enough are there.

        Those that come back are taken back, as if they had never been away, a few times
        in a round. Parties that have no request in it do not count.
        """
        outcome = self.outcomes[number]
        away = {UNREACHABLE, ABSENT}
        gone = {r.node for r in outcome.refusals if r.reason in away}
        idle = set(outcome.idle)
        left = [node for node in self.present if node not in idle]
        enough = max(self.min_parties, 1 + len(left))  # somebody has to come back
        if self._returns == RETURNS or len(gone) + len(left) < enough:
            return False
        self._returns += 1
        there = self._await_return(grid, sorted(gone), left, enough)
        if len(there) < enough:
            return False
        logger.warning("round %d begins again with who came back", number)
        self.present = [node for node in self.order if node in {*there, *idle}]
        outcome.refusals = [
            refusal
            for refusal in outcome.refusals
            if refusal.reason not in away or refusal.node not in there
        ]
        return True

    def _await_return(
        self, grid: Grid, gone: Sequence[int], present: Sequence[int], enough: int
    ) -> list[int]:
        """Wait until enough are there, of those present and those that are gone."""
        started = time.monotonic()
        limit = min(self._timeout, RETURN_SECONDS)
        while True:
            there = {*present, *(set(gone) & set(grid.get_node_ids()))}
            late = time.monotonic() - started > limit
            if late or len(there) >= min(enough, len({*gone, *present})):
                return [node for node in self.order if node in there]
            time.sleep(POLL_SECONDS)

    def begin_again(self, number: int) -> None:
        """Take the parties that are still there back, after the loss of another."""
        self.active = list(self.present)
        self.outcomes[number].told.clear()

    def require_enough(self, number: int) -> None:
        """Stop the run once too few parties remain.

        A party all of whose requests were left out counts; one without any does not.

        Raises:
            TooFewPartiesError: Naming who is missing and why.
        """
        outcome = self.outcomes[number]
        content = [node for node in outcome.content if node in self.present]
        left = len(self.active) + len(content)
        if left < self.min_parties:
            raise TooFewPartiesError(
                f"Round {number} has {left} parties left and needs {self.min_parties} "
                f"(`run.min-parties`). Left out: {outcome.missing()}."
            )

    def require_contributors(self, number: int) -> None:
        """Stop the run if nobody is left who had something to edit.

        Raises:
            TooFewPartiesError: Naming who is missing and why.
        """
        self.require_enough(number)
        if not self.active:
            raise TooFewPartiesError(
                f"Round {number} has lost all parties that had requests to edit. Left "
                f"out: {self.outcomes[number].missing()}."
            )

    def _exchange_handshakes(
        self,
        grid: Grid,
        number: int,
        job: Job,
        nodes: Sequence[int],
        there: Sequence[int],
    ) -> None:
        """Ask nodes who they are, and put those who are welcome in their order.

        Those with another model are not asked again. Those that failed are, in the next
        rounds, but not for ever: each time everybody waits for them.
        """
        asking = self.address(Phase.DESCRIBE, job, ArrayRecord(), to=nodes)
        refusals, unlike = self.outcomes[number].refusals, set[int]()
        before = len(refusals)
        for node in nodes:
            self._asked.setdefault(node, []).append(number)
        for reply in self.exchange(grid, number, asking):
            node = reply.metadata.src_node_id
            try:
                handshake = read_handshake(reply.content)
                unlike.add(node)
                check_handshake(handshake, job)
                unlike.remove(node)
                self._check_place(handshake.party, there)
            except StatisticsError as error:
                self.refuse(number, node, str(error))
            else:
                self._seat(node, handshake.party)
        last = {node for node in nodes if len(self._asked[node]) == INTRODUCTIONS}
        out = [each for each in refusals[before:] if each.node in unlike | last]
        self._unwelcome += out

    def _may_be_asked(self, node: int, number: int) -> bool:
        """Whether a node is to be asked who it is, in this round."""
        known = {*self.order, *(each.node for each in self._unwelcome)}
        return node not in known and number not in self._asked.get(node, ())

    def _seat(self, node: int, party: int) -> None:
        """Give a node the place of its party, which another may have left."""
        if party >= 0:
            left = [other for other, place in self.places.items() if place == party]
            for other in left:
                del self.places[other]
        self.places[node] = party
        self.seats[node] = party if party >= 0 else UNNUMBERED + len(self.seats)
        self.order = sorted(
            self.places,
            key=lambda each: (self.places[each] < 0, self.places[each], each),
        )

    def _check_place(self, party: int, there: Sequence[int]) -> None:
        """Let nobody take the place of a party that is there.

        Raises:
            StatisticsError: If another node has it.
        """
        for other, place in self.places.items():
            if place == party >= 0 and other in there:
                raise StatisticsError(
                    f"it says it is party {party}, which node {other} is already; give "
                    "each node a `partition-id` of its own"
                )

    def _message(
        self, phase: Phase, number: int, content: RecordDict, node: int
    ) -> Message:
        return Message(
            content,
            dst_node_id=node,
            message_type=phase.value,
            group_id=str(number),
            ttl=self._timeout,
        )
