"""Handshakes: each party's protocol, model, number and name, before any work."""

from typing import Annotated

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid
from pydantic import BaseModel, Field, ValidationError

from editing.algebra.statistics import StatisticsError
from editing.base.settings import Settings
from strategies.wire.messages import Job, ModelIdentity
from strategies.wire.names import PartyName

Version = Annotated[int, Field(ge=0, le=1_000_000)]
"""The number of a protocol; larger ones would only fill logs."""

FIRST_UNNUMBERED_ID = 1_000_000
"""Ids of parties without a number begin here, after all numbers."""

PartyNumber = Annotated[int, Field(ge=-1, lt=FIRST_UNNUMBERED_ID)]
"""A party's number, by which sums are ordered; −1 is none."""


class ModelMismatchError(StatisticsError):
    """A party holds another model than the server."""


class Handshake(Settings):
    """What a client sends before anything is computed.

    Attributes:
        protocol: The client's `PROTOCOL_VERSION`.
        identity: Of the client's model.
        party: The party's number, so that sums do not depend on node numbers; −1 if the
            node was given none.
        name: What logs and reports call the party; empty if it has no name.
    """

    protocol: Version
    identity: ModelIdentity
    party: PartyNumber
    name: PartyName = ""


class _Protocol(BaseModel):
    """The field that handshakes of all protocols have."""

    protocol: Version


def read_node_keys(grid: Grid) -> dict[int, str]:
    """Return the public key that each node is registered with, as its file has it.

    A node owns the private one: the SuperLink has it sign every request. Nodes of a
    simulation have none, and then the text is empty.
    """
    return {node.node_id: _write_key(node.public_key) for node in grid.get_nodes()}


def is_same_key(line: str, other: str) -> bool:
    """Compare two public keys; what follows algorithm and key is a comment."""
    return line.split()[:2] == other.split()[:2]


def _write_key(pem: bytes) -> str:
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        return ""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def write_handshake(handshake: Handshake) -> RecordDict:
    """Pack a handshake."""
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
        protocol = _protocol_of(content)
        of = "" if protocol is None else f", but of protocol {protocol}"
        raise StatisticsError(f"its handshake is not of this protocol{of}") from None


def _protocol_of(content: RecordDict) -> int | None:
    """Return the protocol of a handshake with other fields, if it can be read."""
    try:
        text = str(content.config_records["handshake"]["handshake"])
        return _Protocol.model_validate_json(text).protocol
    except (KeyError, ValidationError):
        return None


def validate_handshake(handshake: Handshake, job: Job) -> None:
    """Validate that a party has the server's protocol and model.

    Raises:
        StatisticsError: If its protocol is another.
        ModelMismatchError: If its model is another, naming what differs.
    """
    if handshake.protocol != job.protocol:
        raise StatisticsError(
            f"it uses protocol {handshake.protocol}, the server {job.protocol}; "
            "run the same version on both sides"
        )
    different = job.identity.differences(handshake.identity)
    if different:
        raise ModelMismatchError(
            f"its model differs from the server's in: {', '.join(different)}; give it "
            "the same files in the same precision (`model-path`, `model.dtype`)"
        )
