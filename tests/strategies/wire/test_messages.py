"""What is written is read again, and what is not of the protocol is refused."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    RecordDict,
)

from editing.algebra.encodings import Encoding, encode
from editing.algebra.statistics import StatisticsError
from strategies.wire.arrays import to_tensors
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    ProtocolError,
    TargetsReply,
    read_job,
    read_statistics,
    read_targets_reply,
    write_job,
    write_statistics,
    write_targets_reply,
)
from strategies.wire.updates import DELTA
from tests.laws import draw_pairs
from tests.strategies.transport import JOB, over_the_wire

ROUND = 3


def statistics(layers: tuple[int, ...], encoding: Encoding = "factors") -> RecordDict:
    """Write statistics of random edits, other ones for each layer."""
    parts = {k: encode(*draw_pairs(4, seed=k), encoding) for k in layers}
    return write_statistics(parts, ROUND)


def test_a_job_and_its_updates_survive_the_wire_bit_for_bit() -> None:
    """In deployment a message is all that a client's process knows of the run."""
    update = torch.randn(3, 5, dtype=torch.float64)
    arrays = ArrayRecord({"h.1.weight": Array(update.numpy())})
    message = over_the_wire(write_job(JOB, arrays, ConfigRecord({"more": 1})))
    assert read_job(message.content) == JOB
    sent = to_tensors(message.content.array_records[DELTA])
    assert list(sent) == ["h.1.weight"]
    assert torch.equal(sent["h.1.weight"], update)
    assert message.content.config_records["config"]["more"] == 1


def test_a_job_of_another_version_is_a_matter_of_the_protocol() -> None:
    """A newer server may say more than this client can read, or just another number."""
    other = JOB.model_copy(update={"protocol": PROTOCOL_VERSION + 1})
    with pytest.raises(ProtocolError, match="same version"):
        read_job(write_job(other, ArrayRecord()))
    longer = JOB.model_dump_json()[:-1] + ', "more": 1}'
    with pytest.raises(ProtocolError, match="same version"):
        read_job(RecordDict({"job": ConfigRecord({"job": longer})}))
    with pytest.raises(ProtocolError):
        read_job(RecordDict())


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_statistics_of_each_layer_survive_the_wire(encoding: Encoding) -> None:
    """Layer 1 is not mistaken for layer 11, whose name begins with it."""
    layers = (1, 11)
    parts = {k: encode(*draw_pairs(k, seed=k), encoding) for k in layers}
    content = over_the_wire(write_statistics(parts, ROUND)).content
    for layer in layers:
        found = read_statistics(content, layer, ROUND)
        assert (found.encoding, found.count) == (parts[layer].encoding, layer)
        assert found.tensors.keys() == parts[layer].tensors.keys()
        for name, tensor in parts[layer].tensors.items():
            assert torch.equal(found.tensors[name], tensor)


def put(name: str, array: Array) -> Callable[[RecordDict], None]:
    """Put an array in the place of an honest one."""

    def change(content: RecordDict) -> None:
        content.array_records["statistics"][name] = array

    return change


def garbage(data: bytes) -> Array:
    """Claim that some bytes are an array."""
    return Array(dtype="float64", shape=(2, 5), stype="numpy.ndarray", data=data)


def state(name: str, value: str | float) -> Callable[[RecordDict], None]:
    """Put a fact in the place of an honest one."""

    def change(content: RecordDict) -> None:
        content.config_records["facts"][name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.config_records.clear(),
        lambda content: content.array_records.clear(),
        lambda content: content.config_records["facts"].pop("1.count"),
        lambda content: content.config_records["facts"].pop("1.encoding"),
        state("1.count", 1.5),
        state("1.count", "four"),
        put("1.keys", garbage(b"")),
        put("1.keys", garbage(b"PK\x03\x04 no archive")),
        put("1.keys", garbage(b"no array at all")),
        put("1.keys", Array(np.zeros((2, 5), dtype=complex))),
        put("1.keys", Array(np.array([["a", "b"]]))),
        put("1.keys", Array(np.zeros((2, 5), dtype=np.int64))),
        put("1.keys", Array("float64", (2, 5), "another.kind", b"")),
    ],
)
def test_statistics_that_are_not_of_the_protocol_are_refused_and_named(
    change: Callable[[RecordDict], None],
) -> None:
    """Whatever bytes a party sends, the server raises one kind of error."""
    content = statistics((1,))
    change(content)
    with pytest.raises(StatisticsError, match="layer 1"):
        read_statistics(content, 1, ROUND)


def test_statistics_of_another_round_are_refused() -> None:
    """A reply that is sent again is none, whatever message it claims to answer."""
    with pytest.raises(StatisticsError, match="round 4"):
        read_statistics(statistics((1,)), 1, ROUND + 1)


def test_a_layer_that_was_not_sent_is_named() -> None:
    """Who leaves a layer out is refused."""
    with pytest.raises(StatisticsError, match="layer 2"):
        read_statistics(statistics((1,)), 2, ROUND)


def test_what_is_said_of_targets_survives_the_wire() -> None:
    """Every field of it."""
    targets = TargetsReply(
        requests=7, known=2, left_out=1, residual_norm=3.5, residual_ratio=0.25
    )
    assert (
        read_targets_reply(over_the_wire(write_targets_reply(targets)).content)
        == targets
    )


@pytest.mark.parametrize("field", ["requests", "known", "left_out", "residual_norm"])
@pytest.mark.parametrize("value", ['"many"', "-1", "NaN", "null"])
def test_numbers_of_requests_that_cannot_be_are_refused(field: str, value: str) -> None:
    """They decide who takes part, and what the report says."""
    text = f'{{"requests": 1, "{field}": {value}}}'
    record = ConfigRecord({"targets": text})
    with pytest.raises(StatisticsError, match="number of requests"):
        read_targets_reply(RecordDict({"targets": record}))
    with pytest.raises(StatisticsError, match="number of requests"):
        read_targets_reply(RecordDict())
