"""The kinds of messages of secure sums, and the parties that answer them."""

import hashlib
import shutil
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict

from clients.secure.party import SummingParty
from strategies.secure.masks import Masking
from strategies.secure.opening import open_sum
from strategies.secure.records import (
    RECORD,
    MembersRequest,
    name_question,
    read_keys,
    read_masked,
    read_masked_request,
    read_members,
    read_session,
    read_shares,
    read_unmask,
    read_unmask_request,
    threshold_of,
    write_keys,
    write_masked,
    write_masked_request,
    write_members,
    write_session,
    write_shares,
    write_unmask,
    write_unmask_request,
)
from strategies.wire.messages import write_job
from tests.fuzzing.messages import Kind
from tests.strategies.transport import JOB
from tests.summing import Sum, party_in, session_of

MEMBERS = (0, 1, 2)
VALUES = {"count": np.array([1.0, 2.0])}
LENGTHS = {name: 2 * len(values) for name, values in VALUES.items()}
FOLDERS: list[TemporaryDirectory[str]] = []
"""Of sums under way; each is removed when the tests end."""

OPENED, SHARED, MASKED, UNMASKED = 1, 2, 3, 4


@cache
def under_way(stage: int) -> Sum:
    """Carry a sum of three parties up to a stage, with the same secrets each time."""
    drawn = count()

    def draw(size: int = 32) -> bytes:
        return hashlib.sha256(str(next(drawn)).encode()).digest()[:size]

    folder = TemporaryDirectory()
    FOLDERS.append(folder)
    one = Sum(Path(folder.name), MEMBERS)
    with patch("secrets.token_bytes", draw):
        one.ask_keys()
        if stage >= SHARED:
            one.ask_shares()
        if stage >= MASKED:
            one.ask_masked(dict.fromkeys(MEMBERS, VALUES))
        if stage >= UNMASKED:
            one.ask_unmask()
    return one


def party_at(stage: int, folder: Path) -> SummingParty:
    """Let party 0 be at a stage, in a folder of the test's."""
    shutil.rmtree(folder / "0", ignore_errors=True)
    shutil.copytree(under_way(stage).folder / "0", folder / "0")
    return party_in(folder, 0)


def members() -> RecordDict:
    """Pack the keys of all parties."""
    one = under_way(OPENED)
    keys = tuple(one.keys[number] for number in MEMBERS)
    return write_members(MembersRequest(session=one.session, members=keys))


def shares() -> RecordDict:
    """Pack what party 1 sealed for the others."""
    one = under_way(SHARED)
    return write_shares(dict.fromkeys(one.session.sums, one.sealed[1]))


def masked_request() -> RecordDict:
    """Pack a job, and how its answer is masked."""
    content = write_job(JOB, ArrayRecord())
    asked = under_way(SHARED).request(question=name_question(content))
    return RecordDict({**content, RECORD: write_masked_request(asked)})


def mask(message: Message, folder: Path) -> object:
    """Mask the numbers of party 0; as they are, if nobody asks for masks."""
    asked = read_masked_request(message.content)
    return asked and party_at(SHARED, folder).mask(asked, VALUES)


def unmask_request() -> RecordDict:
    """Pack the question for unmasking."""
    return write_unmask_request(*under_way(MASKED).unmasking(0, MEMBERS))


def open_with(message: Message, _: Path) -> object:
    """Take the masks off, as the server does, with the answer of party 1."""
    one = under_way(UNMASKED)
    answers = {**one.answers, 1: read_unmask(message.content, MEMBERS)}
    parts = [part["count"] for part in one.masked.values()]
    totals = {"count": parts[0] + parts[1] + parts[2]}
    masking = Masking(one.session.name(one.name), MEMBERS, one.request().digest)
    least = threshold_of(len(MEMBERS))
    open_sum(totals, masking, MEMBERS, one.keys, answers, least)
    return totals


MASKED_KINDS: Mapping[str, Kind] = {
    "keys": Kind(
        lambda: write_keys(under_way(OPENED).keys[1]),
        lambda message, _: read_keys(message.content, session_of()),
    ),
    "shares": Kind(
        shares,
        lambda message, _: read_shares(message.content, session_of().sums, (0, 2)),
    ),
    "masked numbers": Kind(
        lambda: write_masked(under_way(MASKED).masked[1]),
        lambda message, _: read_masked(message.content, LENGTHS),
    ),
    "shares of masks": Kind(
        lambda: write_unmask(under_way(UNMASKED).answers[1]), open_with
    ),
    "session": Kind(
        lambda: write_session(session_of(attempt=1)),
        lambda m, folder: party_at(OPENED, folder).open(read_session(m.content)),
    ),
    "members": Kind(
        members,
        lambda m, folder: party_at(OPENED, folder).share(read_members(m.content)),
    ),
    "masked request": Kind(masked_request, mask),
    "request for unmasking": Kind(
        unmask_request,
        lambda m, folder: party_at(MASKED, folder).unmask(
            *read_unmask_request(m.content)
        ),
    ),
}
"""Replies, then what the server sends."""
