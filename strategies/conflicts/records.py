"""What parties and server say of requests that meet: tokens up, resolutions down.

A token tells nobody without the parties' common key what a request is about
(`strategies.conflicts.blind_tokens`). The server compares tokens and tells each
party what becomes of its requests; the request itself stays where it is.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from flwr.app import ConfigRecord, RecordDict
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from editing.algebra.statistics import StatisticsError
from editing.base.settings import Settings

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class TokenEntry(Settings):
    """One request of a round, as the server may see it.

    Attributes:
        party: Whose it is; the node that speaks for it may speak for others too.
        place: Its place among the party's requests of the round.
        fact: Keyed digest of subject and relation prompt.
        target: Keyed digest of the fact and the object it shall have.
    """

    party: Annotated[int, Field(ge=-1, lt=1_000_000)]
    place: NonNegativeInt
    fact: Digest
    target: Digest


class Resolution(Settings):
    """What becomes of a request that met another one.

    Attributes:
        round: When it was made.
        party: Whose it is.
        place: Its place among the party's requests of the round.
        fact: Its token, for the party to see that both speak of the same request.
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
_RULINGS = TypeAdapter(tuple[Resolution, ...])


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
    """Pack what a node is told of its requests."""
    return ConfigRecord(
        {"resolutions": _RULINGS.dump_json(tuple(resolutions)).decode()}
    )


def read_resolutions(content: RecordDict) -> tuple[Resolution, ...]:
    """What the server says of this node's requests; nothing unless it compared them."""
    record = content.config_records.get("resolutions")
    return _RULINGS.validate_json(str(record["resolutions"])) if record else ()
