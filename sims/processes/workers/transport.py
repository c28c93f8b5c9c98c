"""Messages and contexts between two processes, in the form that Flower sends them in.

The values of arrays are parts of their own: Flower's form holds 2 GiB at most, and
would copy them.
"""

from collections.abc import Sequence
from copy import copy
from multiprocessing.connection import Connection

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.app.message.message import make_message
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ProtoContext
from flwr.proto.message_pb2 import Message as ProtoMessage


def pack(message: Message, context: Context) -> list[bytes]:
    """Take a message and a context apart: both without values, then the values."""
    values: list[bytes] = []
    if message.has_content():
        shell = RecordDict()
        for name, record in message.content.items():
            if isinstance(record, ArrayRecord):
                values += [array.data for array in record.values()]
                shell[name] = _without_values(record)
            else:
                shell[name] = record
        # Flower marks the metadata of a message that it makes as not yet delivered.
        message = make_message(copy(message.metadata), shell)
    head = message_to_proto(message), context_to_proto(context)
    return [*(each.SerializeToString() for each in head), *values]


def unpack(parts: Sequence[bytes]) -> tuple[Message, Context]:
    """Put together what `pack` took apart."""
    first, second, *values = parts
    message = message_from_proto(ProtoMessage.FromString(first))
    if message.has_content():
        arrays = [
            array
            for record in message.content.array_records.values()
            for array in record.values()
        ]
        for array, data in zip(arrays, values, strict=True):
            array.data = data
    return message, context_from_proto(ProtoContext.FromString(second))


def send(connection: Connection, parts: Sequence[bytes]) -> None:
    """Send parts, and before them their number."""
    connection.send_bytes(str(len(parts)).encode())
    for part in parts:
        connection.send_bytes(part)


def receive(connection: Connection) -> list[bytes]:
    """Receive what was sent; an `EOFError` or `OSError` if nobody is left to send."""
    return [connection.recv_bytes() for _ in range(int(connection.recv_bytes()))]


def _without_values(record: ArrayRecord) -> ArrayRecord:
    return ArrayRecord(
        {
            name: Array(dtype=each.dtype, shape=each.shape, stype=each.stype, data=b"")
            for name, each in record.items()
        }
    )
