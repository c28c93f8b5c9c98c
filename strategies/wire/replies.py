"""What a reply may hold: the records of its kind, and the bytes that its plan needs."""

from collections.abc import Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from editing.algebra.encodings import Encoding
from strategies.wire.messages import Phase

STATISTICS = frozenset({"statistics", "facts"})
FAILURE = "failure"
"""The record of a failure, in a reply of any kind."""

RECORDS: Mapping[str, frozenset[str]] = {
    Phase.DESCRIBE: frozenset({"handshake"}),
    Phase.MOMENTS: frozenset({"moments", "facts", "statistics"}),
    Phase.TOKENS: frozenset({"tokens"}),
    Phase.ANSWERS: frozenset({"answers", "statistics"}),
    Phase.KEYS: frozenset({"secure"}),
    Phase.SHARES: frozenset({"secure"}),
    Phase.UNMASK: frozenset({"secure"}),
    Phase.TARGETS: STATISTICS | {"targets"},
    Phase.STATISTICS: STATISTICS,
    Phase.MEMORY: STATISTICS,
    Phase.BEGIN: frozenset({"answers"}),
    Phase.VALUES: STATISTICS | {"targets"},
    Phase.LOSSES: frozenset({"losses", "gradients"}),
    Phase.GRADIENTS: frozenset({"gradients"}),
    Phase.EVALUATE: frozenset({"metrics", "statistics"}),
}
"""The records of a reply, by the type of its message; of other types, any.

``statistics`` are whatever is summed under masks, too.
"""

SMALL_BYTES = 1_000_000
"""Bytes of all that is no statistics: names, counts, metrics."""

TOKEN_BYTES = 1_000
"""Bytes of one request's blind tokens."""

NUMBER_BYTES = 8
"""Bytes of a number in double precision, the widest that is sent."""


def statistics_bytes(encoding: Encoding, d_out: int, d_in: int, edits: float) -> float:
    """Return the most bytes that one layer's statistics of so many edits have."""
    if encoding == "dense":
        return NUMBER_BYTES * (d_in * (d_in + 1) / 2 + d_out * d_in)
    return NUMBER_BYTES * min(edits, float(d_in)) * (d_in + d_out)


def moment_bytes(d_in: int) -> float:
    """Return the bytes of one layer's second moment."""
    return NUMBER_BYTES * d_in * (d_in + 1) / 2


def answer_bytes(d_out: int, d_in: int) -> float:
    """Return the most bytes of the moments of keys and gradients of one shape."""
    return NUMBER_BYTES * (2 * (d_out + d_in) + d_out * (d_out + 1) / 2)


def cut_reply(reply: Message, most: float) -> str | None:
    """Take out of a reply what none of its kind holds, and all of one that is too long.

    Returns:
        The reason for refusing it; None if it has no more bytes than `most`.
    """
    if reply.has_error():
        return None
    known = RECORDS.get(reply.metadata.message_type)
    if known is not None:
        named = {*known, FAILURE}
        reply.content = RecordDict(
            {name: each for name, each in reply.content.items() if name in named}
        )
    arrays = reply.content.array_records.values()
    headers = sum(
        NUMBER_BYTES * len(array.shape) + len(array.dtype) + len(array.stype)
        for record in arrays
        for array in record.values()
    )
    size = count_bytes(reply) + headers
    if size <= most:
        return None
    reply.content = RecordDict()
    return f"it sent {size:,} bytes, and {most:,.0f} at most were asked for"


def count_bytes(message: Message | None) -> int:
    """Return the bytes of all values in a message's content; 0 without a message."""
    if message is None or message.has_error():
        return 0
    return sum(_record_bytes(record) for record in message.content.values())


def count_array_bytes(message: Message) -> int:
    """Return the bytes of the arrays in a message's content; of an error, 0."""
    if message.has_error():
        return 0
    arrays = message.content.array_records.values()
    return sum(record.count_bytes() for record in arrays)


def _record_bytes(record: ArrayRecord | ConfigRecord | MetricRecord) -> int:
    """Return what Flower counts; an empty text or list has no bytes."""
    if not isinstance(record, ConfigRecord):
        return record.count_bytes()
    filled = {name: value for name, value in record.items() if value not in _EMPTY}
    empty = sum(len(name) for name in record if name not in filled)
    return ConfigRecord(filled).count_bytes() + empty


_EMPTY: tuple[str | bytes | list[str], ...] = ("", b"", [])
"""Values of which Flower's own count fails."""
