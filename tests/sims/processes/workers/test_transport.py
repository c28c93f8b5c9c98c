"""Laws of what passes between processes: it arrives as it was."""

from collections.abc import Iterator
from multiprocessing import Pipe
from threading import Thread

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.app.error import Error

from sims.processes.workers.transport import pack, receive, send, unpack
from tests.sims.processes.workers.test_work import context, question


def messages() -> Iterator[Message]:
    """Make a message of each kind: with values, without any, with an error."""
    full = question()
    rows = np.arange(6.0).reshape(2, 3)
    full.content["rows"] = ArrayRecord({"a": Array(rows), "b": Array(rows[:0])})
    full.content["own"] = ArrayRecord({"c": Array("bits", (2,), "own", b"\0\xff")})
    full.content["words"] = ConfigRecord({"z": [1.5, 0.1], "a": b"\0", "m": "é"})
    yield from (full, question(), Message(Error(7, "why"), reply_to=question()))


@pytest.mark.parametrize("message", [*messages()], ids=["values", "none", "error"])
def test_a_message_and_a_context_arrive_as_they_were(message: Message) -> None:
    """All of them, bit for bit; the sender's stay as they are."""
    before = Context(1, 7, {"partition-id": 3}, RecordDict(), {"x.y": 0.1, "n": True})
    before.state["kept"] = ArrayRecord({"k": Array(np.array([0.1], np.float32))})
    values = [
        [each.data for each in record.values()]
        for record in (
            message.content.array_records.values() if message.has_content() else ()
        )
    ]
    ours, its = Pipe()
    Thread(target=send, args=(its, pack(message, before))).start()
    found, after = unpack(receive(ours))
    assert after == before
    assert found.metadata == message.metadata
    assert found.has_error() == message.has_error()
    if message.has_error():
        assert (found.error.code, found.error.reason) == (7, "why")
    else:
        assert found.content == message.content
        for record in found.content.array_records.values():
            assert [each.data for each in record.values()] == values.pop(0)


def test_values_are_not_copied_to_be_sent() -> None:
    """They may take most of the memory."""
    message = next(messages())
    _, _, *values = pack(message, context())
    own = [
        array.data
        for record in message.content.array_records.values()
        for array in record.values()
    ]
    assert all(ours is each for ours, each in zip(values, own, strict=True))


def test_a_message_that_is_sent_stays_delivered() -> None:
    """Flower hands out again, ten times a second, what is not."""
    message = next(messages())
    message.metadata.delivered_at = "2026-11-29T12:00:00+00:00"
    pack(message, context())
    assert message.metadata.delivered_at == "2026-11-29T12:00:00+00:00"
