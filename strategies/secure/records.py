"""What travels for secure sums: keys, sealed shares, masked numbers, and unmasking.

The server relays what parties send one another and cannot read it. Whatever is secret
is sealed for one receiver, and bound to the sum, its sender and the list of members.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from pydantic import Field, NonNegativeInt, ValidationError

from editing.algebra.statistics import StatisticsError
from editing.base.settings import Settings
from strategies.secure.fixed_point import Words
from strategies.secure.keys import context
from strategies.secure.masks import SumName
from strategies.wire.arrays import digest_all, digest_arrays
from strategies.wire.handshakes import FIRST_UNNUMBERED_ID
from strategies.wire.messages import ProtocolError, read_job, reading
from strategies.wire.updates import read_carried

LEAST_MEMBERS = 3
"""With two, each could subtract its own share from the sum."""

RECORD = "secure"
"""The record of a message that belongs to a secure sum."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Member = Annotated[int, Field(ge=0, lt=FIRST_UNNUMBERED_ID)]
Members = tuple[Member, ...]
Form = Literal["rows", "dense"]
Kind = TypeVar("Kind", bound=Settings)


def threshold_of(parties: int) -> int:
    """Return how many shares recover a mask: more than two in three.

    To get both kinds of share of one party, which together unmask it, a server that
    tells parties different things then needs a third of them on its side.
    """
    return 2 * parties // 3 + 1


class Session(Settings):
    """One attempt at one round; its keys are used for no other.

    Attributes:
        run: Drawn by the server; a resumed run has another.
        label: The part of the run.
        round: Counted from 1; 0 is before any edit.
        attempt: Counts how often the round was begun.
        sums: The names of the sums that keys are for.
    """

    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    label: str
    round: NonNegativeInt
    attempt: NonNegativeInt
    sums: tuple[str, ...]

    def name(self, chosen: str) -> SumName:
        """Name one of the sums."""
        return SumName(self.run, self.label, self.round, self.attempt, chosen)


class PublicKeys(Settings):
    """A party's public keys of a session, and the tag that they are its own.

    Attributes:
        party: The party's number.
        sharing: For shares that are sealed for it.
        sums: For the masks of each sum.
        tag: Made with the key that the parties share.
    """

    party: Member
    sharing: Hex
    sums: Mapping[str, Hex]
    tag: Hex

    def message(self, session: Session) -> bytes:
        """Return what the tag is of."""
        sums = [(name, self.sums[name]) for name in sorted(self.sums)]
        parts = (session.run, session.label, session.round, session.attempt)
        return context("keys", *parts, session.sums, self.party, self.sharing, sums)


class MembersRequest(Settings):
    """The keys of all parties of a session, which are asked for shares."""

    session: Session
    members: tuple[PublicKeys, ...]


class MaskedRequest(Settings):
    """How a reply is to be masked.

    Attributes:
        session: Whose keys are used.
        sum: Which of its sums.
        members: Parties whose masks cancel: those that gave their shares.
        question: What is asked of each of them, from `name_question`.
        capacities: The most edits of each member, in the same order.
        forms: By layer, whether rows under the shared rotation travel, or triangles.
        bits: Fraction bits by vector; a vector that is missing takes two places each.
    """

    session: Session
    sum: str
    members: Members
    question: str = ""
    capacities: tuple[NonNegativeInt, ...] = ()
    forms: Mapping[int, Form] = {}
    bits: Mapping[str, int] = {}

    @property
    def digest(self) -> str:
        """Digest of all of it, which masks are bound to.

        So they cancel only among parties of which the same is asked, on one model: a
        server that gave some of them a model on which their numbers are nothing would
        not be left with those of the others.
        """
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Rows of all members together."""
        return sum(self.capacities)

    def place_of(self, party: int) -> slice:
        """Return which rows are a member's."""
        at = self.members.index(party)
        start = sum(self.capacities[:at])
        return slice(start, start + self.capacities[at])


class UnmaskRequest(Settings):
    """The question for what takes the masks off a sum.

    Attributes:
        session: Whose keys were used.
        sum: Which of its sums.
        survivors: Members whose masked numbers are in the sum.
        senders: Members whose sealed shares come with the message, in order.
    """

    session: Session
    sum: str
    survivors: Members
    senders: Members


def write_session(session: Session) -> RecordDict:
    """Pack the question for keys."""
    return _write(session)


def read_session(content: RecordDict) -> Session:
    """Undo `write_session`; anything else is a `ProtocolError`."""
    return _read(content, Session)


def write_keys(keys: PublicKeys) -> RecordDict:
    """Pack a party's public keys."""
    return _write(keys)


def read_keys(content: RecordDict, session: Session) -> PublicKeys:
    """Undo `write_keys`.

    Raises:
        StatisticsError: If the reply does not hold keys for all sums.
    """
    try:
        keys = PublicKeys.model_validate_json(str(content[RECORD]["text"]))
    except (KeyError, ValidationError, TypeError):
        raise StatisticsError(
            "its keys for secure sums are not in the reply; has its node a "
            "`partition-id`?"
        ) from None
    if set(keys.sums) != set(session.sums):
        raise StatisticsError("its keys for secure sums are for other sums")
    return keys


def write_members(request: MembersRequest) -> RecordDict:
    """Pack the question for shares."""
    return _write(request)


def read_members(content: RecordDict) -> MembersRequest:
    """Undo `write_members`; anything else is a `ProtocolError`."""
    return _read(content, MembersRequest)


def write_shares(shares: Mapping[str, Mapping[int, bytes]]) -> RecordDict:
    """Pack sealed shares, by sum and receiver."""
    values = {
        f"{name}/{party}": each
        for name, sealed in shares.items()
        for party, each in sealed.items()
    }
    return RecordDict({RECORD: ConfigRecord({**values})})


def read_shares(
    content: RecordDict, sums: Sequence[str], receivers: Sequence[int]
) -> dict[str, dict[int, bytes]]:
    """Undo `write_shares`.

    Raises:
        StatisticsError: If a share is missing.
    """
    found: dict[str, dict[int, bytes]] = {}
    record = content.config_records.get(RECORD, ConfigRecord())
    for name in sums:
        sealed = {party: record.get(f"{name}/{party}") for party in receivers}
        found[name] = {k: v for k, v in sealed.items() if isinstance(v, bytes)}
        if len(found[name]) < len(receivers):
            raise StatisticsError("its shares for secure sums are not in the reply")
    return found


def name_question(content: RecordDict) -> str:
    """Digest what a message asks of every party alike: the job, on which model."""
    job = read_job(content).model_dump_json()
    prior = content.array_records.get("prior", ArrayRecord())
    parts = (job, digest_all(read_carried(content)), digest_arrays(prior))
    return hashlib.sha256(context("question", *parts)).hexdigest()


def write_masked_request(request: MaskedRequest) -> ConfigRecord:
    """Pack how a reply is to be masked; it goes with the message."""
    return ConfigRecord({"text": request.model_dump_json()})


def read_masked_request(content: RecordDict) -> MaskedRequest | None:
    """Undo `write_masked_request`; None if the reply is not to be masked.

    Raises:
        ProtocolError: If it is not about the rest of the message.
    """
    if RECORD not in content:
        return None
    request = _read(content, MaskedRequest)
    with reading("a question"):
        question = name_question(content)
    if request.question != question:
        raise ProtocolError(
            "The server asks for a sum over another job or model than its message "
            "holds. Nothing is sent."
        )
    return request


def write_masked(vectors: Mapping[str, Words]) -> RecordDict:
    """Pack masked numbers."""
    arrays = {name: Array(words) for name, words in vectors.items()}
    return RecordDict({"statistics": ArrayRecord(arrays)})


def read_masked(content: RecordDict, lengths: Mapping[str, int]) -> dict[str, Words]:
    """Undo `write_masked`.

    Raises:
        StatisticsError: If it is not what was asked for.
    """
    try:
        record = content.array_records["statistics"]
        found = {name: record[name].numpy() for name in lengths}
    except Exception as error:  # whatever a party's bytes make numpy raise
        raise StatisticsError(
            f"its masked numbers are not in the reply ({type(error).__name__})"
        ) from None
    for name, words in found.items():
        if words.dtype != np.uint64 or words.shape != (lengths[name],):
            raise StatisticsError(f"its masked numbers of `{name}` have another shape")
    return found


def write_unmask_request(
    request: UnmaskRequest, sealed: Mapping[int, bytes]
) -> RecordDict:
    """Pack the question for unmasking, with the shares sealed for its receiver."""
    inbox = ConfigRecord({"shares": [sealed[each] for each in request.senders]})
    return RecordDict({**_write(request), "inbox": inbox})


def read_unmask_request(
    content: RecordDict,
) -> tuple[UnmaskRequest, dict[int, bytes]]:
    """Undo `write_unmask_request`; anything else is a `ProtocolError`."""
    request = _read(content, UnmaskRequest)
    given = content.config_records.get("inbox", ConfigRecord()).get("shares")
    shares = given if isinstance(given, list) else []
    sealed = [each for each in shares if isinstance(each, bytes)]
    return request, dict(zip(request.senders, sealed, strict=False))


def write_unmask(shares: Mapping[int, bytes]) -> RecordDict:
    """Pack one share of each member: of its seed, or of its key if it was lost."""
    return RecordDict(
        {RECORD: ConfigRecord({str(party): each for party, each in shares.items()})}
    )


def read_unmask(content: RecordDict, members: Sequence[int]) -> dict[int, bytes]:
    """Undo `write_unmask`.

    Raises:
        StatisticsError: If a share is missing.
    """
    record = content.config_records.get(RECORD, ConfigRecord())
    shares = {party: record.get(str(party)) for party in members}
    found = {k: v for k, v in shares.items() if isinstance(v, bytes)}
    if len(found) < len(members):
        raise StatisticsError("its shares of the masks are not in the reply")
    return found


def _write(value: Settings) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord({"text": value.model_dump_json()})})


def _read(content: RecordDict, kind: type[Kind]) -> Kind:
    """Read a record of the server's.

    Raises:
        ProtocolError: If the message is not one of this protocol.
    """
    try:
        return kind.model_validate_json(str(content[RECORD]["text"]))
    except (KeyError, ValidationError, TypeError) as error:
        raise ProtocolError(
            "The server's message is not one of this protocol's secure sums "
            f"({type(error).__name__}). Do server and clients run the same version?"
        ) from None
