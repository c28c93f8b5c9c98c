"""Records of duplicate and conflicting requests: tokens up, resolutions down.

Without the parties' common key, a token does not show what a request is about
(`strategies.conflicts.blind_tokens`). The server compares tokens and sends each party
the resolutions of its requests, which stay where they are.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from flwr.app import ConfigRecord, RecordDict
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from editing.algebra.statistics import StatisticsError
from editing.base.settings import Settings
from strategies.wire.messages import reading

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class TokenEntry(Settings):
    """One request of a round, as the server may see it.

    Attributes:
        party: Whose it is; its node may represent other parties too.
        place: Its place among the party's requests of the round.
        fact: Keyed digest of subject and relation prompt.
        target: Keyed digest of the fact and the object it shall have.
    """

    party: Annotated[int, Field(ge=-1, lt=1_000_000)]
    place: NonNegativeInt
    fact: Digest
    target: Digest


class Resolution(Settings):
    """The resolution of a duplicate or conflicting request.

    Attributes:
        round: When it was made.
        party: Whose it is.
        place: Its place among the party's requests of the round.
        fact: Its token, by which the party validates that it is the same request.
        reason: Whether the other one gives the fact the same object or another.
        kept: Whether it is edited, or was in an earlier round.
    """

    round: NonNegativeInt
    party: int
    place: NonNegativeInt
    fact: Digest
    reason: Literal["duplicate", "conflict"]
    kept: bool


_ENTRIES = TypeAdapter(tuple[TokenEntry, ...])
_RESOLUTIONS = TypeAdapter(tuple[Resolution, ...])


def write_tokens(entries: Sequence[TokenEntry]) -> RecordDict:
    """Pack the tokens of a node's requests of a round."""
    text = _ENTRIES.dump_json(tuple(entries)).decode()
    return RecordDict({"tokens": ConfigRecord({"tokens": text})})


def read_tokens(content: RecordDict) -> tuple[TokenEntry, ...]:
    """Undo `write_tokens`.

    Raises:
        StatisticsError: If the reply holds none, or a place twice.
    """
    try:
        entries = _ENTRIES.validate_json(str(content["tokens"]["tokens"]))
    except (KeyError, ValidationError, TypeError):
        raise StatisticsError("its tokens are not in the reply") from None
    if len({(entry.party, entry.place) for entry in entries}) < len(entries):
        raise StatisticsError("its tokens name one request twice")
    return entries


def write_resolutions(resolutions: Sequence[Resolution]) -> ConfigRecord:
    """Pack the resolutions of a node's requests."""
    return ConfigRecord(
        {"resolutions": _RESOLUTIONS.dump_json(tuple(resolutions)).decode()}
    )


def read_resolutions(content: RecordDict) -> tuple[Resolution, ...]:
    """Return the resolutions of this node's requests, if tokens are compared.

    Others than `write_resolutions` packs are a `ProtocolError`.
    """
    record = content.config_records.get("resolutions")
    if not record:
        return ()
    with reading("resolutions"):
        return _RESOLUTIONS.validate_json(str(record["resolutions"]))
