"""Updates that travel as factors: smaller messages, and one delta for all nodes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from editing.algebra.deltas import relative_difference
from server.checkpoints import Checkpoints, Measured, MergeProgress
from strategies.wire.arrays import to_array, to_tensors
from strategies.wire.deltas import LEFT, RIGHT, Updates, join_factors
from strategies.wire.updates import DELTA
from tests.federation import Federation, Recorder, assert_same_bits
from tests.laws import draw_pairs

Make = Callable[..., Federation]

FACTORS = {"encoding-down": "factors", "rounds": 3}
TABLES = {"parties": {"requests-per-round": 1}, "model": {"dtype": "float32"}}
NAME = "h.1.weight"


def bytes_down(federation: Federation) -> int:
    """Sum the bytes of updates in all messages to parties."""
    return sum(
        message.content.array_records[DELTA].count_bytes()
        for message in federation.messages
        if DELTA in message.content.array_records
    )


def one_delta(updates: Updates) -> None:
    """Hold what the server keeps to what a party makes of what travels."""
    received = join_factors(to_tensors(updates.to_arrays()))
    assert received.keys() == updates.delta.keys()
    for name, update in updates.delta.items():
        assert torch.equal(received[name], update.float())


def test_factors_are_smaller_and_all_nodes_have_one_delta(federate: Make) -> None:
    """It differs from the one that travels whole by rounding alone."""
    whole, factors = (
        federate(run={**FACTORS, **changes}, **TABLES)
        for changes in ({"encoding-down": "whole"}, {})
    )
    for federation in (whole, factors):
        federation.run()
    updates = factors.strategy.updates
    assert updates.factors.keys() == updates.delta.keys()
    one_delta(updates)
    assert bytes_down(factors) < 0.8 * bytes_down(whole)
    gap = relative_difference(factors.strategy.delta, whole.strategy.delta)
    assert 0 < gap < 1e-4


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_resumes_has_the_same_bits(
    federate: Make, tmp_path: Path, stop: int
) -> None:
    """Factors are kept with the checkpoint: found anew they would be others."""
    recorder = Recorder()
    federation = federate(run=FACTORS, **TABLES)
    federation.run(callbacks=recorder)
    kept = Checkpoints(tmp_path, {})
    kept.keep("one", MergeProgress(recorder.states[stop - 1], Measured()))
    rest = federate(run=FACTORS, **TABLES)
    strategy, _ = rest.run(resume=kept.find("one").state)
    assert_same_bits(strategy.delta, federation.strategy.delta)
    sent, theirs = strategy.to_arrays(), federation.strategy.to_arrays()
    assert {k: v.data for k, v in sent.items()} == {
        k: v.data for k, v in theirs.items()
    }


def test_a_merge_without_low_rank_travels_whole(federate: Make) -> None:
    """`ties` trims entries; most of its updates have full rank."""
    federation = federate(run=FACTORS, **TABLES)
    federation.delta("ties")
    updates = federation.strategy.updates
    one_delta(updates)
    assert updates.factors == {}


def solved(rows: int, seed: int = 0, d_out: int = 40, d_in: int = 90) -> Tensor:
    """Draw an update of low rank."""
    keys, residuals = draw_pairs(rows, seed, d_in=d_in, d_out=d_out)
    return residuals.mT @ keys


@pytest.mark.parametrize(
    ("encoding", "dtype", "rows", "expected"),
    [
        ("factors", torch.float32, 5, True),
        ("whole", torch.float32, 5, False),
        ("factors", torch.float64, 5, False),
        ("factors", torch.bfloat16, 5, True),
        ("factors", torch.bfloat16, 20, False),
        ("factors", torch.float32, 30, False),
    ],
)
def test_factors_are_sent_where_they_are_smaller(
    encoding: str, dtype: torch.dtype, rows: int, *, expected: bool
) -> None:
    """They take four bytes a number; a model of doubles is sent all of its update."""
    start = Updates({}, {}, encoding, dtype)  # type: ignore[arg-type]
    updates = start.add({NAME: solved(rows)}, rows)
    names = {NAME + LEFT, NAME + RIGHT} if expected else {NAME}
    arrays = updates.to_arrays()
    assert set(arrays) == names
    if expected:
        assert arrays.count_bytes() < dtype.itemsize * 40 * 90


def test_an_update_of_unknown_rank_stays_whole() -> None:
    """Such as one of an earlier run; and what was not changed keeps its factors."""
    start = Updates({}, {}, "factors").add({NAME: solved(3)}, 3)
    grown = start.add({"h.2.weight": solved(2, 1), NAME: solved(2, 1)}, 2)
    assert grown.factors[NAME].rank <= 5
    assert start.add({"h.2.weight": solved(2)}, 2).factors[NAME] is start.factors[NAME]
    given = Updates({}, {}, "factors").given(
        ArrayRecord({NAME: to_array(solved(3).float())})
    )
    assert given.add({NAME: solved(2)}, 2).factors == {}


def test_names_of_factors_are_joined_in_any_order() -> None:
    """Messages may list them as they like."""
    updates = Updates({}, {}, "factors").add({NAME: solved(3)}, 3)
    tensors = to_tensors(updates.to_arrays())
    backwards = dict(reversed(list(tensors.items())))
    assert_same_bits(join_factors(backwards), join_factors(tensors))
