"""Of a reply that is kept, everything was asked for."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from editing.algebra.encodings import Encoding, encode
from strategies.wire.failures import write_failure
from strategies.wire.messages import Phase, write_statistics
from strategies.wire.replies import (
    RECORDS,
    count_bytes,
    cut_reply,
    statistics_bytes,
)
from tests.laws import D_IN, D_OUT, draw_pairs
from tests.strategies.transport import over_the_wire


def message_of(content: RecordDict) -> Message:
    """Send a reply to a request for targets."""
    message = over_the_wire(content)
    assert message.metadata.message_type == Phase.TARGETS
    return message


@pytest.mark.parametrize("encoding", ["factors", "factors-float32", "dense"])
@pytest.mark.parametrize("edits", [1, 4, 40])
def test_no_statistics_are_longer_than_their_plan(
    encoding: Encoding, edits: int
) -> None:
    """Whatever their rank; what is counted in addition is small."""
    sent = write_statistics({1: encode(*draw_pairs(edits), encoding)}, 1)
    most = statistics_bytes(encoding, D_OUT, D_IN, float(edits))
    arrays = sent.array_records["statistics"].values()
    numbers = sum(array.numpy().nbytes for array in arrays)
    assert numbers <= most
    assert numbers == most or encoding == "factors-float32"


def test_what_nobody_asked_for_is_dropped() -> None:
    """Records of other names, before they count or are kept."""
    known = write_statistics({1: encode(*draw_pairs(2), "factors")}, 1)
    junk = ArrayRecord({"junk": Array(np.zeros(10**6))})
    reply = message_of(RecordDict({**known, "junk": junk, "metrics": ConfigRecord()}))
    assert cut_reply(reply, 1e4) is None
    assert set(reply.content) == {"statistics", "facts"}
    failed = message_of(RecordDict({**write_failure("another model"), "junk": junk}))
    assert cut_reply(failed, 1e4) is None
    assert set(failed.content) == {"failure"}
    assert set(RECORDS) == set(Phase) - {Phase.FORGET}


@pytest.mark.parametrize(
    "record",
    [
        ArrayRecord({"1.keys": Array(np.zeros(2000))}),
        ArrayRecord({"1.keys" * 2000: Array(np.zeros(1))}),
        ArrayRecord({"1.keys": Array("float64", (1,) * 2000, "numpy.ndarray", b"")}),
        ArrayRecord({"1.keys": Array("f" * 12_000, (1,), "numpy.ndarray", b"")}),
    ],
)
def test_of_what_is_too_long_nothing_is_held(record: ArrayRecord) -> None:
    """Wherever the bytes are: in numbers, names or shapes."""
    reply = message_of(RecordDict({"statistics": record}))
    reason = cut_reply(reply, 1e4)
    assert reason is not None
    assert "10,000 at most" in reason
    assert not reply.content


def test_an_empty_text_has_no_bytes() -> None:
    """Flower's own count would stop the run."""
    record = ConfigRecord({"text": "", "list": [], "bytes": b"", "more": "four"})
    reply = message_of(RecordDict({"facts": record}))
    assert count_bytes(reply) == len("textlistbytesmorefour")
