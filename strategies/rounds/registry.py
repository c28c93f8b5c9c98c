"""The party registry: who has joined, who is present, and who is active in a round."""

import logging
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.exception import AggregationError

from editing.algebra.statistics import StatisticsError
from strategies.rounds.callbacks import RoundCallbacks
from strategies.rounds.exchange import (
    POLL_SECONDS,
    UNREACHABLE,
    Arrival,
    ExchangeRecord,
    Refusal,
    await_nodes,
    exchange,
)
from strategies.rounds.limits import Limits
from strategies.rounds.parties import RETURN_SECONDS, Parties, PartyInputError
from strategies.rounds.state import RoundOutcome
from strategies.wire.failures import INPUT_FAILURES
from strategies.wire.handshakes import (
    ModelMismatchError,
    read_handshake,
    read_node_keys,
    validate_handshake,
)
from strategies.wire.messages import Job, Phase, read_job, write_job
from strategies.wire.replies import count_bytes
from strategies.wire.updates import read_carried, without_held

logger = logging.getLogger(__name__)

KEEPING = {each for each in Phase if not each.value.startswith("query.")}
"""Messages whose updates a node keeps."""

MOST_RESTARTS = 3
"""How often a round starts again with parties that could not be reached before."""

ABSENT = "it was not there when the round began"
"""The reason for a party that took part before; it may come back."""


class TooFewPartiesError(AggregationError):
    """The run cannot continue with the parties that are left."""


class PartyRegistry:
    """The states of all parties, and every exchange with them.

    Attributes:
        parties: The parties that have joined.
        present: Nodes that are connected in this round and did not fail in it.
        active: Those of them that still contribute to the round.
        outcomes: The result of each round so far.
        held: Digests of the updates that each node keeps, as far as is known.
    """

    def __init__(
        self,
        min_parties: int,
        callbacks: RoundCallbacks | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Start without any party."""
        self.min_parties, self.limits = min_parties, limits or Limits()
        self.callbacks = callbacks or RoundCallbacks()
        self.held: dict[int, frozenset[str]] = {}
        self.parties = Parties()
        self.present: list[int] = []
        self.active: list[int] = []
        self.outcomes: dict[int, RoundOutcome] = {}
        self._timeout = 0.0
        self._restarts = 0
        self._unwelcome: list[Refusal] = []

    def welcome(
        self,
        grid: Grid,
        job: Job,
        count: int,
        timeout: float,
        *,
        begun: bool = False,
    ) -> None:
        """Wait for the parties, and validate their handshakes.

        Args:
            grid: Flower's connection to the nodes.
            job: Says which model it is.
            count: How many parties are expected.
            timeout: Seconds to wait for them, and for each reply.
            begun: Whether the run resumes after a completed round. A party may have
                left it for good by then, so the least number suffices if the others do
                not come.
        """
        self._timeout = timeout
        enough = min(count, self.min_parties) if begun else count
        nodes = await_nodes(grid, count, timeout, enough, RETURN_SECONDS)
        self.outcomes[0], self._unwelcome = RoundOutcome(), []
        self.parties = Parties()
        self._exchange_handshakes(grid, 0, job, nodes, set(nodes))
        self.present, self.active = list(self.parties.joined), list(self.parties.joined)
        self.require_enough(0)

    def begin_round(self, grid: Grid, number: int, job: Job) -> None:
        """Let new nodes join, and find out which parties are present.

        A node that was not let in is missing from every round.
        """
        outcome = RoundOutcome(refusals=list(self._unwelcome))
        self.outcomes[number], self._restarts = outcome, 0
        connected = set(grid.get_node_ids())
        known = {*self.parties.by_node, *(each.node for each in self._unwelcome)}
        asked = partial(self.parties.was_asked, number=number)
        strangers = sorted(node for node in connected - known if not asked(node))
        if strangers:
            self._exchange_handshakes(grid, number, job, strangers, connected)
        here = [node for node in self.parties.joined if node in connected]
        if len(here) < self.min_parties:
            here = self._await_return(grid, self.parties.joined, here, self.min_parties)
        if not job.pooled:
            left = set(self.parties.by_node) - set(here)
            outcome.refusals += [
                Refusal(node, ABSENT, self.parties.label(node))
                for node in self.parties.joined
                if node in left
            ]
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
        """Write one message to each node, by default to the active ones."""
        content = write_job(job, delta, config, prior)
        return [
            self._message(phase, job.round, RecordDict({**content}), node)
            for node in (self.active if to is None else to)
        ]

    def exchange(
        self, grid: Grid, number: int, messages: Sequence[Message], most: float = 0.0
    ) -> Iterator[Message]:
        """Send, wait, and yield the replies in the order of the messages.

        Parties that fail are left out of the round; `require_enough` checks whether
        enough are left. A reply is yielded as soon as those before it are, so that it
        can be dropped before the next one is in memory. A node is not sent the updates
        that it holds. A party whose own input is wrong is a `PartyInputError`. A reply
        has at most `most` bytes, or what the plan needs.
        """
        if not messages:
            return
        phase = Phase(messages[0].metadata.message_type)
        whole = {each.metadata.dst_node_id: each.content for each in messages}

        def on_reply(arrived: int) -> None:
            expected = len(messages)
            self.callbacks.on_progress(phase.value, number, arrived, expected)

        def resend(node: int) -> Message:
            return self._message(phase, number, whole[node], node)

        if phase in KEEPING:
            self._leave_held_out(messages)
        on_reply(0)
        for arrival in exchange(
            grid,
            messages,
            self._timeout,
            on_reply,
            resend,
            self.parties.label,
            lambda node: max(most, self._most(messages[0], node)),
        ):
            record = self._record(number, arrival)
            if arrival.reply is None:
                self.parties.introduce(arrival.node, arrival.name)
                self.refuse(number, arrival.node, str(arrival.reason))
            else:
                self._record_held(phase, arrival.node, whole[arrival.node])
                yield arrival.reply
            failure, node = arrival.failure, arrival.node
            del arrival
            self._report(record)
            # A node that comes late and cannot join takes nothing from the run.
            if not (phase == Phase.DESCRIBE and number > 0):
                self._require_sound_input(node, failure)

    def _most(self, message: Message, node: int) -> float:
        """Return the most bytes of a node's reply to a message."""
        phase, job = Phase(message.metadata.message_type), read_job(message.content)
        return self.limits.reply_bytes(phase, job, self.parties.number_of(node))

    def _leave_held_out(self, messages: Sequence[Message]) -> None:
        """Take the updates that a node holds out of its message."""
        for message in messages:
            held = self.held.pop(message.metadata.dst_node_id, frozenset())
            message.content = without_held(message.content, held)

    def _record_held(self, phase: Phase, node: int, content: RecordDict) -> None:
        if phase in KEEPING:
            self.held[node] = frozenset(read_carried(content).values())

    def _require_sound_input(self, node: int, failure: str | None) -> None:
        """End the run if a party reports that its own input is wrong.

        Raises:
            PartyInputError: Naming the party and the class of the failure.
        """
        if failure in INPUT_FAILURES:
            raise PartyInputError(self.parties.label(node), f"it reported {failure}")

    def _record(self, number: int, arrival: Arrival) -> ExchangeRecord:
        phase, party = arrival.message.metadata.message_type, -1
        down, up = count_bytes(arrival.message), count_bytes(arrival.reply)
        return ExchangeRecord(
            phase, number, arrival.node, party, arrival.seconds, down, up, "ok"
        )

    def _report(self, record: ExchangeRecord) -> None:
        """Report an exchange, once its reply was accepted or refused."""
        node, refusals = record.node, self.outcomes[record.round].refusals
        outcome = [each.reason for each in refusals if each.node == node] or ["ok"]
        party, name = self.parties.number_of(node), self.parties.label(node)
        self.callbacks.on_exchange(
            replace(record, outcome=outcome[-1], party=party, name=name)
        )

    def refuse(self, number: int, node: int, reason: str) -> None:
        """Leave a party out of the rest of the round, and log why."""
        name = self.parties.label(node)
        logger.warning("round %d continues without %s: %s", number, name, reason)
        self.outcomes[number].refuse(Refusal(node, reason, name))
        self.active = [other for other in self.active if other != node]
        self.present = [other for other in self.present if other != node]

    def count_statistics(self, number: int, reply: Message) -> None:
        """Count the bytes of statistics that a party sent."""
        record = reply.content.array_records.get("statistics", ArrayRecord())
        sent, node = self.outcomes[number].bytes_up, reply.metadata.src_node_id
        sent[node] = sent.get(node, 0) + sum(len(each.data) for each in record.values())

    @property
    def contributors(self) -> list[str]:
        """Names of the active parties."""
        return [self.parties.label(node) for node in self.active]

    def bytes_sent(self, number: int) -> dict[int, int]:
        """Return the bytes of statistics of a round by the parties' ids."""
        sent = self.outcomes[number].bytes_up.items()
        return {self.parties.id_of(node): size for node, size in sent}

    def wait_for_return(self, grid: Grid, number: int) -> bool:
        """Wait for parties that could not be reached; return whether enough are back.

        They become present again, at most `MOST_RESTARTS` times in a round. Parties
        that have no request in it do not count.
        """
        outcome, away = self.outcomes[number], {UNREACHABLE, ABSENT}
        gone = {each.node for each in outcome.refusals if each.reason in away}
        idle = set(outcome.idle)
        left = [node for node in self.present if node not in idle]
        enough = max(self.min_parties, 1 + len(left))  # somebody has to come back
        if self._restarts == MOST_RESTARTS or len(gone) + len(left) < enough:
            return False
        self._restarts += 1
        back = self._await_return(grid, sorted(gone), left, enough)
        if len(back) < enough:
            return False
        logger.warning("round %d starts again with the parties that are back", number)
        self.present = [node for node in self.parties.joined if node in {*back, *idle}]
        outcome.refusals = [
            refusal
            for refusal in outcome.refusals
            if refusal.reason not in away or refusal.node not in back
        ]
        return True

    def _await_return(
        self, grid: Grid, gone: Sequence[int], present: Sequence[int], enough: int
    ) -> list[int]:
        """Wait until enough are connected, of those present and those that are gone."""
        started, limit = time.monotonic(), min(self._timeout, RETURN_SECONDS)
        while True:
            connected = {*present, *(set(gone) & set(grid.get_node_ids()))}
            late = time.monotonic() - started > limit
            if late or len(connected) >= min(enough, len({*gone, *present})):
                return [node for node in self.parties.joined if node in connected]
            time.sleep(POLL_SECONDS)

    def restart_round(self, number: int) -> None:
        """Make all present parties active again, after the loss of another."""
        self.active = list(self.present)
        self.outcomes[number].targets.clear()

    def require_enough(self, number: int) -> None:
        """Stop the run once too few parties remain.

        A party all of whose requests were left out counts; one without any does not.

        Raises:
            TooFewPartiesError: Naming who is missing and why.
        """
        outcome = self.outcomes[number]
        left = len(self.active) + len({*outcome.unedited} & {*self.present})
        if left < self.min_parties:
            raise TooFewPartiesError(
                f"Round {number} has {left} parties left and needs {self.min_parties} "
                f"(`run.min-parties`). Left out: {outcome.missing(self.parties.label)}."
            )

    def require_contributors(self, number: int) -> None:
        """Stop the run if no party is left that had something to edit.

        Raises:
            TooFewPartiesError: Naming who is missing and why.
        """
        self.require_enough(number)
        if not self.active:
            missing = self.outcomes[number].missing(self.parties.label)
            raise TooFewPartiesError(
                f"Round {number} has lost all parties that had requests to edit. "
                f"Left out: {missing}."
            )

    def _exchange_handshakes(
        self,
        grid: Grid,
        number: int,
        job: Job,
        nodes: Sequence[int],
        connected: AbstractSet[int],
    ) -> None:
        """Ask nodes for their handshakes, and let those join that are valid.

        Nodes of another protocol or, once the run has begun, with another model are not
        asked again. Those that failed are, in the next rounds, but not for ever: all
        parties wait each time.
        """
        asking = self.address(Phase.DESCRIBE, job, ArrayRecord(), to=nodes)
        refusals, unlike = self.outcomes[number].refusals, set[int]()
        before, keys = len(refusals), read_node_keys(grid)
        self.parties.ask(nodes, number)
        for reply in self.exchange(grid, number, asking):
            node = reply.metadata.src_node_id
            try:
                handshake = read_handshake(reply.content)
                self.parties.introduce(node, handshake.name)
                unlike.add(node)
                validate_handshake(handshake, job)
                unlike.remove(node)
                self.limits.validate_party(handshake.party, keys.get(node, ""))
                self.parties.check_number(handshake.party, connected)
            except ModelMismatchError as error:
                self._refuse_model(number, node, error)
            except StatisticsError as error:
                self.refuse(number, node, str(error))
            else:
                self.parties.join(node, handshake)
        last = {node for node in nodes if self.parties.may_not_be_asked_again(node)}
        out = [each for each in refusals[before:] if each.node in unlike | last]
        self._unwelcome += out

    def _refuse_model(self, number: int, node: int, error: StatisticsError) -> None:
        """Refuse a late node; end a run that begins with a party of another model.

        Raises:
            PartyInputError: If the run has not begun.
        """
        self.refuse(number, node, str(error))
        if number == 0:
            raise PartyInputError(self.parties.label(node), str(error))

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
