"""Handshakes: what a party says of itself before anything is computed."""

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


class Handshake(Settings):
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
    """What handshakes of all protocols have in common."""

    protocol: Version


def write_handshake(handshake: Handshake) -> RecordDict:
    """Pack what a client says of itself."""
    text = handshake.model_dump_json()
    return RecordDict({"handshake": ConfigRecord({"handshake": text})})


def read_handshake(content: RecordDict) -> Handshake:
    """Undo `write_handshake`.

    Raises:
        StatisticsError: If the reply is not of this protocol.
    """
    try:
        text = str(content.config_records["handshake"]["handshake"])
        return Handshake.model_validate_json(text)
    except (KeyError, ValidationError):
        protocol = _told_protocol(content)
        of = "" if protocol is None else f", but of protocol {protocol}"
        raise StatisticsError(f"its handshake is not of this protocol{of}") from None


def _told_protocol(content: RecordDict) -> int | None:
    """The number of a protocol whose handshakes have other fields."""
    try:
        text = str(content.config_records["handshake"]["handshake"])
        return _Protocol.model_validate_json(text).protocol
    except (KeyError, ValidationError):
        return None


def check_handshake(handshake: Handshake, job: Job) -> None:
    """Hold a party to the server's protocol and model.

    Raises:
        StatisticsError: Naming what differs.
    """
    if handshake.protocol != job.protocol:
        raise StatisticsError(
            f"it speaks protocol {handshake.protocol}, the server {job.protocol}; "
            "run the same version on both sides"
        )
    different = job.identity.differences(handshake.identity)
    if different:
        raise StatisticsError(
            f"its model differs from the server's in: {', '.join(different)}; give it "
            "the same files in the same precision (`model-path`, `model.dtype`)"
        )
