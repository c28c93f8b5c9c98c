"""The server's side of the protocol of secure sums: keys, shares, sums, unmasking.

Two exchanges begin a session, whose keys are for all sums of a round; each sum then
takes one exchange for the masked numbers and one to unmask their total. Who is lost
before its masked numbers came is not in the sum, and its masks are recovered; nobody is
asked for the same sum again.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from editing.algebra.statistics import StatisticsError
from strategies.rounds.registry import PartyRegistry, TooFewPartiesError
from strategies.secure.fixed_point import Reals, Words, count_words, decode
from strategies.secure.masks import Masking
from strategies.secure.opening import UnopenedSumError, open_sum
from strategies.secure.records import (
    LEAST_MEMBERS,
    RECORD,
    MaskedRequest,
    MembersRequest,
    PublicKeys,
    Session,
    UnmaskRequest,
    name_question,
    read_keys,
    read_masked,
    read_shares,
    read_unmask,
    threshold_of,
    write_masked_request,
    write_members,
    write_session,
    write_unmask_request,
)
from strategies.wire.messages import Job, Phase
from strategies.wire.replies import SMALL_BYTES

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """A sum that was unmasked.

    Attributes:
        vectors: The sums of the parties' vectors.
        digest: Of all that the masks were bound to.
        parties: The numbers of those in it.
    """

    vectors: Mapping[str, Reals]
    digest: str
    parties: tuple[int, ...]


class LostPartyError(TooFewPartiesError):
    """A party was lost before a sum that needs all; nothing of it was unmasked."""


@dataclass(slots=True)
class _Open:
    """A session under way.

    Attributes:
        session: Its name, and its sums.
        job: The round's.
        keys: Of all its parties, by number.
        sealed: By sum, sender and receiver, what parties send one another.
        nodes: The node of each member: of each party that gave shares.
    """

    session: Session
    job: Job
    keys: dict[int, PublicKeys]
    sealed: dict[str, dict[int, dict[int, bytes]]]
    nodes: dict[int, int] = field(default_factory=dict)

    @property
    def members(self) -> tuple[int, ...]:
        """Parties whose masks cancel."""
        return tuple(sorted(self.nodes))

    @property
    def least(self) -> int:
        """How many members a sum needs to be unmasked."""
        return max(LEAST_MEMBERS, threshold_of(len(self.keys)))


class SecureSessions:
    """Sessions of secure sums with the parties of a registry."""

    def __init__(self, registry: PartyRegistry) -> None:
        """Start without any; a run that resumes has a name of its own."""
        self._registry = registry
        self._run = secrets.token_hex(16)
        self._attempt = -1
        self._open: _Open | None = None

    @property
    def members(self) -> tuple[int, ...]:
        """The numbers of the parties whose masks cancel in this session."""
        return () if self._open is None else self._open.members

    def begin(self, grid: Grid, job: Job, sums: Sequence[str]) -> None:
        """Exchange fresh keys and shares with the active parties.

        Args:
            grid: Flower's connection to the nodes.
            job: Says which part of the run and which round.
            sums: Names of the round's sums.
        """
        self._attempt += 1
        session = Session(
            run=self._run,
            label=job.label,
            round=job.round,
            attempt=self._attempt,
            sums=tuple(sums),
        )
        keys = self._ask_keys(grid, job, session)
        self._open = _Open(session, job, keys, {name: {} for name in sums})
        self._ask_shares(grid, job, self._open)

    def _ask_keys(
        self, grid: Grid, job: Job, session: Session
    ) -> dict[int, PublicKeys]:
        registry, found = self._registry, dict[int, PublicKeys]()
        messages = registry.address(Phase.KEYS, job, ArrayRecord())
        for message in messages:
            message.content.update(write_session(session))
        for reply in registry.exchange(grid, job.round, messages):
            node = reply.metadata.src_node_id
            try:
                keys = read_keys(reply.content, session)
                self._check_number(node, keys)
                found[keys.party] = keys
            except StatisticsError as error:
                registry.refuse(job.round, node, str(error))
        self._require(job.round, len(found), LEAST_MEMBERS)
        return found

    def _check_number(self, node: int, keys: PublicKeys) -> None:
        """Refuse keys of another party than the node's.

        Raises:
            StatisticsError: Naming that party.
        """
        if keys.party != self._registry.parties.number_of(node):
            raise StatisticsError(f"it sent keys of party {keys.party}")

    def _ask_shares(self, grid: Grid, job: Job, opened: _Open) -> None:
        registry, numbers = self._registry, sorted(opened.keys)
        request = MembersRequest(
            session=opened.session, members=tuple(opened.keys[n] for n in numbers)
        )
        messages = registry.address(Phase.SHARES, job, ArrayRecord())
        for message in messages:
            message.content.update(write_members(request))
        for reply in registry.exchange(grid, job.round, messages):
            node = reply.metadata.src_node_id
            number = registry.parties.number_of(node)
            others = [each for each in numbers if each != number]
            try:
                found = read_shares(reply.content, opened.session.sums, others)
            except StatisticsError as error:
                registry.refuse(job.round, node, str(error))
                continue
            for name, sealed in found.items():
                opened.sealed[name][number] = sealed
            opened.nodes[number] = node
        self._require(job.round, len(opened.nodes), opened.least)

    def collect(
        self,
        grid: Grid,
        messages: Sequence[Message],
        request: MaskedRequest,
        lengths: Mapping[str, int],
        whole: Sequence[int] | None = None,
    ) -> OpenedSum:
        """Ask for masked numbers, and unmask their sum.

        Args:
            grid: Flower's connection to the nodes.
            messages: The question to each party, without how it is masked.
            request: How, from `ask`.
            lengths: How many numbers each vector has.
            whole: Nodes all of which must still be present, or nothing is unmasked.

        Raises:
            LostPartyError: If one of `whole` is not.
            UnopenedSumError: If the answers do not unmask it.
        """
        opened, registry, number = self._current, self._registry, request.session.round
        if messages:
            asked = name_question(messages[0].content)
            request = request.model_copy(update={"question": asked})
        for message in messages:
            message.content[RECORD] = write_masked_request(request)
        places = {k: count_words(n, request.bits.get(k)) for k, n in lengths.items()}
        totals = {name: np.zeros(size, np.uint64) for name, size in places.items()}
        survivors = self._add(grid, number, messages, totals)
        if whole is not None and registry.present != list(whole):
            raise LostPartyError("A party was lost before its numbers came.")
        self._require(number, len(survivors), opened.least)
        answers = self._ask_unmask(grid, request, survivors)
        sum_name = opened.session.name(request.sum)
        masking = Masking(sum_name, request.members, request.digest)
        threshold = threshold_of(len(opened.keys))
        try:
            open_sum(totals, masking, survivors, opened.keys, answers, threshold)
        except UnopenedSumError as error:
            missing = registry.outcomes[number].missing(registry.parties.label)
            raise UnopenedSumError(f"{error} Left out: {missing}.") from None
        parties = len(request.members)
        vectors = {
            name: decode(words, request.bits.get(name), parties)
            for name, words in totals.items()
        }
        return OpenedSum(vectors, request.digest, tuple(survivors))

    def ask(self, name: str) -> MaskedRequest:
        """Write the question for a sum of this session."""
        opened = self._current
        return MaskedRequest(session=opened.session, sum=name, members=opened.members)

    def _add(
        self,
        grid: Grid,
        number: int,
        messages: Sequence[Message],
        totals: dict[str, Words],
    ) -> list[int]:
        """Add masked numbers up in place; return whose they are."""
        registry, survivors = self._registry, []
        sizes = {name: len(words) for name, words in totals.items()}
        most = float(SMALL_BYTES + sum(words.nbytes for words in totals.values()))
        for reply in registry.exchange(grid, number, messages, most):
            node = reply.metadata.src_node_id
            try:
                found = read_masked(reply.content, sizes)
            except StatisticsError as error:
                registry.refuse(number, node, str(error))
                continue
            for name, words in found.items():
                totals[name] += words
            survivors.append(registry.parties.number_of(node))
            registry.count_statistics(number, reply)
        return sorted(survivors)

    def _ask_unmask(
        self, grid: Grid, request: MaskedRequest, survivors: Sequence[int]
    ) -> dict[int, dict[int, bytes]]:
        """Ask the survivors for one share of each member's masks."""
        opened, registry, number = self._current, self._registry, request.session.round
        sealed, messages = opened.sealed[request.sum], []
        for survivor in survivors:
            senders = tuple(each for each in request.members if each != survivor)
            asking = UnmaskRequest(
                session=opened.session,
                sum=request.sum,
                survivors=tuple(survivors),
                senders=senders,
            )
            inbox = {sender: sealed[sender][survivor] for sender in senders}
            (message,) = registry.address(
                Phase.UNMASK, opened.job, ArrayRecord(), to=[opened.nodes[survivor]]
            )
            message.content.update(write_unmask_request(asking, inbox))
            messages.append(message)
        answers = {}
        for reply in registry.exchange(grid, number, messages):
            node = reply.metadata.src_node_id
            holder = registry.parties.number_of(node)
            try:
                answers[holder] = read_unmask(reply.content, request.members)
            except StatisticsError as error:
                registry.refuse(number, node, str(error))
        return answers

    def _require(self, number: int, found: int, least: int) -> None:
        """Give a sum up if too few parties are left for it.

        Raises:
            TooFewPartiesError: Naming who is missing and why.
        """
        registry = self._registry
        registry.require_enough(number)
        if found < least:
            missing = registry.outcomes[number].missing(registry.parties.label)
            raise TooFewPartiesError(
                f"Round {number} has {found} parties left for a secure sum and needs "
                f"{least}, so nothing of it is unmasked or applied. Left out: "
                f"{missing}. Start the others, or set `privacy.secure-sum` to false "
                "if the server may see each party's statistics."
            )

    @property
    def _current(self) -> _Open:
        assert self._open is not None, "no session has begun"
        return self._open
