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
    MetricRecord,
    RecordDict,
)

from editing.algebra.encodings import Encoding, encode
from editing.algebra.statistics import StatisticsError
from editing.evaluation.metrics import MetricSums
from strategies.wire.arrays import to_tensors
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    Failure,
    ProtocolError,
    TargetsReply,
    read_evaluation,
    read_failure,
    read_job,
    read_metrics,
    read_statistics,
    read_targets_reply,
    write_evaluation,
    write_failure,
    write_job,
    write_metrics,
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
        assert (found.encoding, found.count) == (encoding, layer)
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


@pytest.mark.parametrize("failure", get_args(Failure))
def test_a_failure_travels_as_its_class(failure: Failure) -> None:
    """And an answer that is none is no failure."""
    assert read_failure(over_the_wire(write_failure(failure)).content) == failure
    assert read_failure(write_metrics({})) is None


def test_other_words_than_the_known_ones_are_not_passed_on() -> None:
    """A changed client could write anything into the server's log and report."""
    for record in (ConfigRecord({"kind": "see /home/ada"}), ConfigRecord()):
        said = read_failure(RecordDict({"failure": record}))
        assert said is not None
        assert "ada" not in said


def test_what_is_said_of_targets_survives_the_wire() -> None:
    """Every field of it."""
    told = TargetsReply(
        requests=7, known=2, left_out=1, residual_norm=3.5, residual_ratio=0.25
    )
    assert read_targets_reply(over_the_wire(write_targets_reply(told)).content) == told


def test_judgements_of_several_rounds_survive_the_wire() -> None:
    """Sums and counts by round are all that leaves of an evaluation."""
    evaluated = {
        1: MetricSums(
            {"rewrite_acc": 1.5, "paraphrase_success.same_direction": 0.0},
            {"rewrite_acc": 2, "paraphrase_success.same_direction": 1},
        ),
        12: MetricSums({"rewrite_diff": -2.0}, {"rewrite_diff": 5}),
    }
    sent = over_the_wire(write_evaluation(evaluated)).content
    assert read_evaluation(read_metrics(sent)) == evaluated
    assert (
        read_evaluation(read_metrics(over_the_wire(write_evaluation({})).content)) == {}
    )
    assert read_metrics(RecordDict()) == {}


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


def over(
    total: float, count: float, name: str = "rewrite_acc", number: str = "1"
) -> dict[str, float]:
    """Write one metric of one round."""
    return {f"round.{number}.sum.{name}": total, f"round.{number}.count.{name}": count}


@pytest.mark.parametrize(
    "metrics",
    [
        {"round.1.sum.rewrite_acc": 1.0},
        {"round.1.count.rewrite_acc": 1.0},
        {"round.1.sum.rewrite_acc": 1.0, "round.2.count.rewrite_acc": 1.0},
        {"sum.rewrite_acc": 1.0, "count.rewrite_acc": 1.0},
        over(1.0, 1.0) | {"rewrite_acc": 1.0},
        over(1.0, 1.0, number="x"),
        over(1.0, 1.0, number="٣"),
        over(1.0, 1.0, number="9" * 5000),
        over(float("nan"), 1.0),
        over(float("inf"), 1.0),
        over(1.0, float("nan")),
        over(1.0, float("inf")),
        over(0.0, 0.0),
        over(0.0, -2.0),
        over(1.0, 1.5),
        over(1e308, 1.0),
        over(-5e5, 1.0),
        over(1.5, 1.0),
        over(-0.5, 1.0),
        over(2.5, 2.0, "neighborhood_success"),
        over(-1.5, 1.0, "rewrite_diff"),
        over(1e6, 1.0, "ngram_entropy"),
        over(1.0, 1.0, "score"),
        over(1.0, 1.0, "rewrite_acc\nall is well"),
    ],
)
def test_metrics_that_are_no_sums_over_something_are_refused(
    metrics: dict[str, float],
) -> None:
    """One NaN would spoil everybody's, and one name could break the report."""
    with pytest.raises(StatisticsError, match="metrics") as caught:
        read_metrics(write_metrics(metrics))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "metrics",
    [
        over(1.0, 4.0, number="1"),
        over(1.0, 1.0, number="0"),
        over(1.0, 1.0, number="3"),
        over(1.0, 1.0, number="01"),
        over(1.0, 1.0, number="2"),
        over(1.0, 1e30, number="1"),
    ],
)
def test_metrics_are_of_no_more_requests_than_were_asked_for(
    metrics: dict[str, float],
) -> None:
    """A party cannot outvote the others, nor judge rounds that have not been."""
    asked = {1: 3.0, 2: 0.0}
    honest = over(1.0, 3.0)
    assert read_metrics(write_metrics(honest), asked) == honest
    with pytest.raises(StatisticsError, match="in which it can have"):
        read_metrics(write_metrics(metrics), asked)


def test_a_list_of_numbers_is_no_metric() -> None:
    """Flower allows it; the protocol does not."""
    record = MetricRecord(
        {"round.1.sum.rewrite_acc": [1.0], "round.1.count.rewrite_acc": 1.0}
    )
    with pytest.raises(StatisticsError, match="metrics"):
        read_metrics(RecordDict({"metrics": record}))
