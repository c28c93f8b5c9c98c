"""Introductions: what a party says of itself before anything is computed."""

from typing import Annotated

from flwr.app import ConfigRecord, RecordDict
from pydantic import BaseModel, Field, ValidationError

from editing.algebra.statistics import StatisticsError
from editing.base.settings import Settings
from strategies.wire.messages import Job, ModelIdentity

Version = Annotated[int, Field(ge=0, le=1_000_000)]
"""A number of a protocol; a longer one is nobody's and only fills logs."""

Party = Annotated[int, Field(ge=-1, lt=1_000_000)]
"""A place among the parties; −1 is none."""


class Introduction(Settings):
    """What a client says of itself before anything is computed.

    Attributes:
        protocol: The client's `PROTOCOL_VERSION`.
        identity: Of the client's model.
        party: Its place in sums, so that they do not depend on node numbers; −1 if the
            node was given none.
    """

    protocol: Version
    identity: ModelIdentity
    party: Party


class _Protocol(BaseModel):
    """What introductions of all protocols have in common."""

    protocol: Version


def write_introduction(introduction: Introduction) -> RecordDict:
    """Pack what a client says of itself."""
    text = introduction.model_dump_json()
    return RecordDict({"introduction": ConfigRecord({"introduction": text})})


def read_introduction(content: RecordDict) -> Introduction:
    """Undo `write_introduction`.

    Raises:
        StatisticsError: If the reply is not of this protocol.
    """
    try:
        text = str(content.config_records["introduction"]["introduction"])
        return Introduction.model_validate_json(text)
    except (KeyError, ValidationError):
        protocol = _told_protocol(content)
        of = "" if protocol is None else f", but of protocol {protocol}"
        raise StatisticsError(f"its introduction is not of this protocol{of}") from None


def _told_protocol(content: RecordDict) -> int | None:
    """The number of a protocol whose introductions have other fields."""
    try:
        text = str(content.config_records["introduction"]["introduction"])
        return _Protocol.model_validate_json(text).protocol
    except (KeyError, ValidationError):
        return None


def check_introduction(introduction: Introduction, job: Job) -> None:
    """Hold a party to the server's protocol and model.

    Raises:
        StatisticsError: Naming what differs.
    """
    if introduction.protocol != job.protocol:
        raise StatisticsError(
            f"it speaks protocol {introduction.protocol}, the server {job.protocol}; "
            "run the same version on both sides"
        )
    different = job.identity.differences(introduction.identity)
    if different:
        raise StatisticsError(
            f"its model differs from the server's in: {', '.join(different)}; give it "
            "the same files in the same precision (`model-path`, `model.dtype`)"
        )
