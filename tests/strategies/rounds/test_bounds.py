"""Numbers that no honest party can have are refused, and spoil nobody's else."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.exception import AggregationError

from server.evaluation import summarise
from strategies.conflicts.records import read_tokens, write_tokens
from strategies.wire.messages import Phase
from tests.federation import (
    AT_ONCE,
    Federation,
    assert_same_delta,
    edit_in_rounds,
)
from tests.laws import ALGEBRA
from tests.strategies.transport import sums_in
from tests.strategies.wrongs import claimed, disturb, measured, said, sent

Make = Callable[..., Federation]

KEYS, RESIDUALS = np.ones((2, 24)), np.ones((2, 16))


@pytest.mark.parametrize(
    ("number", "total", "count"),
    [
        ("1", float("nan"), 2.0),
        ("1", float("inf"), 2.0),
        ("1", 1e308, 2.0),
        ("1", -5e5, 2.0),
        ("1", 2.5, 2.0),
        ("1", 2.0, 3.0),
        ("1", 1e9, 1e9),
        ("2", 1.0, 1.0),
        ("0", 1.0, 1.0),
        ("9" * 5000, 1.0, 1.0),
    ],
)
def test_metrics_that_cannot_be_right_spoil_nobody_elses(
    federate: Make, number: str, total: float, count: float
) -> None:
    """The party is named, its edits stay, and the others' metrics are reported."""
    federation = federate(editing=AT_ONCE)
    names = [f"round.{number}.{kind}.rewrite_acc" for kind in ("sum", "count")]
    numbers = dict(zip(names, (total, count), strict=True))
    disturb(federation, Phase.EVALUATE, measured(**numbers))
    strategy, result = federation.run()
    outcome = strategy.registry.outcomes[1]
    assert [r.node for r in outcome.refusals] == [federation.node(1)]
    found = sums_in(result.evaluate_metrics_clientapp[1])
    assert found.of_round(1).counts["rewrite_acc"] == 4
    assert summarise(found, outcome, None, 1).evaluated == 4
    assert_same_delta(strategy.delta, federation.edit_alone(), ALGEBRA)


def test_a_later_layer_is_a_sum_over_the_same_edits(federate: Make) -> None:
    """A party that counts otherwise in the second layer is in neither."""
    federation = federate()
    disturb(federation, Phase.STATISTICS, claimed("2.count", 3))
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    assert "layer 2: a count of 3 was sent, and 2 edits" in refusal.reason
    first, _, third = federation.requests_of_parties(1)
    expected = edit_in_rounds(federation.preparation, [[*first, *third]], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)


def crowded(content: RecordDict) -> None:
    """Send a token of one request more than there are."""
    entries = read_tokens(content)
    more = entries[0].model_copy(update={"place": 2})
    content["tokens"] = write_tokens([*entries, more])["tokens"]


def test_tokens_are_of_no_more_requests_than_a_party_has(federate: Make) -> None:
    """Requests that nobody makes could outvote those that are made."""
    federation = federate(editing=AT_ONCE, parties={"conflicts": "majority"})
    disturb(federation, Phase.TOKENS, crowded)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    assert "than the 2 that it can have" in refusal.reason


def heavy(content: RecordDict) -> None:
    """Send keys that are too long, and a count that makes their mean short."""
    for layer in (1, 2):
        sent(f"{layer}.keys", 1e8 * KEYS)(content)
        claimed(f"{layer}.count", 2**62)(content)
    said(requests=2**62)(content)


def test_a_count_makes_no_long_keys_short(federate: Make) -> None:
    """Without a bound on it, they would make the solve fail for everybody."""
    federation = federate(editing=AT_ONCE)
    disturb(federation, Phase.TARGETS, heavy)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    first, _, third = federation.requests_of_parties(1)
    expected = edit_in_rounds(federation.preparation, [[*first, *third]], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)


def test_an_update_that_is_not_finite_goes_to_nobody(federate: Make) -> None:
    """The run stops, and says whose statistics it is made of."""
    federation = federate(
        editing=AT_ONCE,
        model={"dtype": "float32"},
        run={"max-residual-ratio": 1e300},
    )
    disturb(federation, Phase.TARGETS, sent("1.residuals", 1e150 * RESIDUALS))
    with pytest.raises(AggregationError, match="not finite in float32") as caught:
        federation.run()
    assert "party 0, party 1, party 2" in str(caught.value)
    assert federation.nodes_asked(Phase.EVALUATE) == []


def bloated(content: RecordDict) -> None:
    """Send junk where statistics are, and where nothing is asked for."""
    content["junk"] = ArrayRecord({"junk": Array(np.zeros(10**6))})
    content.array_records["statistics"]["9.junk"] = Array(np.zeros(10**6))


@pytest.mark.parametrize("encoding", ["factors", "dense"])
def test_a_reply_is_no_longer_than_its_plan(federate: Make, encoding: str) -> None:
    """What is longer is neither kept nor decoded; the honest ones are as ever."""
    federation = federate(editing=AT_ONCE, run={"encoding": encoding})
    disturb(federation, Phase.TARGETS, bloated)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert refusal.node == federation.node(1)
    assert "it sent 8,0" in refusal.reason
    first, _, third = federation.requests_of_parties(1)
    expected = edit_in_rounds(federation.preparation, [[*first, *third]], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)


def dense(content: RecordDict) -> None:
    """Send an identity in the other encoding, which could hold an edit of all keys."""
    for layer in (1, 2):
        sent(f"{layer}.gram", np.ones(300))(content)
        sent(f"{layer}.cross", np.zeros((16, 24)))(content)
        claimed(f"{layer}.encoding", "dense")(content)


def test_the_encoding_that_was_asked_for_is_heard_and_no_other(
    federate: Make,
) -> None:
    """A dense gram need not be of as few keys as factors are."""
    federation = federate(editing=AT_ONCE)
    disturb(federation, Phase.TARGETS, dense)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert "encoded as factors were wanted, got 'dense'" in refusal.reason


def spread(content: RecordDict) -> None:
    """Send a gram that holds the whole layer, and asks for nothing."""
    triangle = np.eye(24)[np.triu_indices(24)]
    for layer in (1, 2):
        sent(f"{layer}.gram", triangle)(content)
        sent(f"{layer}.cross", np.zeros((16, 24)))(content)


def test_a_dense_gram_has_no_higher_rank_than_its_party_has_edits(
    federate: Make,
) -> None:
    """It would freeze the layer, for all later rounds too."""
    federation = federate(editing=AT_ONCE, run={"encoding": "dense"})
    disturb(federation, Phase.TARGETS, spread)
    strategy, _ = federation.run()
    (refusal,) = strategy.registry.outcomes[1].refusals
    assert "rank of 2 at most, got one of 24" in refusal.reason
