"""Metrics are one type with a sum, and survive the wire."""

import pytest
from flwr.app import MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from editing.algebra.statistics import StatisticsError
from editing.evaluation.metrics import DIAGNOSIS, RANGES, MetricSums
from strategies.wire.metrics import (
    EvaluationSums,
    decode_metrics,
    encode_metrics,
    read_evaluation,
    write_evaluation,
)
from tests.strategies.transport import over_the_wire, write_numbers

MOST_FINITE = 1e6


@st.composite
def evaluations(draw: st.DrawFn) -> EvaluationSums:
    """Draw sums that some cases of some rounds can have."""
    ranges = {**RANGES, **DIAGNOSIS}
    by_round = {}
    for number in draw(st.sets(st.integers(0, 10**9 - 1), max_size=3)):
        names = draw(st.sets(st.sampled_from(sorted(ranges)), min_size=1, max_size=4))
        counts = {name: draw(st.integers(1, 1000)) for name in sorted(names)}
        sums = {
            name: draw(
                st.floats(
                    ranges[name][0] * count, min(ranges[name][1], MOST_FINITE) * count
                )
            )
            for name, count in counts.items()
        }
        by_round[number] = MetricSums(sums, counts)
    return EvaluationSums({number: by_round[number] for number in sorted(by_round)})


@given(evaluation=evaluations())
def test_what_is_encoded_decodes_to_the_same(evaluation: EvaluationSums) -> None:
    """For every metric and any round, to the last bit."""
    assert decode_metrics(encode_metrics(evaluation)) == evaluation
    sent = over_the_wire(write_evaluation(evaluation)).content
    assert read_evaluation(sent) == evaluation


@given(ours=evaluations(), theirs=evaluations())
def test_the_sum_of_two_parties_has_the_cases_of_both(
    ours: EvaluationSums, theirs: EvaluationSums
) -> None:
    """Round by round and metric by metric; a party without cases changes nothing."""
    both = ours + theirs
    assert both.by_round.keys() == ours.by_round.keys() | theirs.by_round.keys()
    for number in both.by_round:
        pooled = ours.of_round(number) + theirs.of_round(number)
        assert both.of_round(number) == pooled
    assert (ours + EvaluationSums()).by_round.keys() == ours.by_round.keys()
    assert both == theirs + ours


def test_no_metrics_are_an_empty_sum() -> None:
    """A client may have evaluated nothing."""
    nothing = EvaluationSums()
    sent = over_the_wire(write_evaluation(nothing)).content
    assert read_evaluation(sent) == read_evaluation(RecordDict()) == nothing


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
        over(1.0, 1.0, number="01"),
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
        over(float("inf"), 1.0, "residual_left"),
        over(-1.0, 1.0, "target_loss"),
        over(1.5, 1.0, "target_stopped"),
        over(1.0, 1.0, "rewrite_acc\nall is well"),
    ],
)
def test_metrics_that_are_no_sums_over_something_are_refused(
    metrics: dict[str, float],
) -> None:
    """One NaN would spoil everybody's, and one name could break the report."""
    with pytest.raises(StatisticsError, match="metrics") as caught:
        read_evaluation(write_numbers(metrics))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "metrics",
    [
        over(1.0, 4.0, number="1"),
        over(1.0, 1.0, number="0"),
        over(1.0, 1.0, number="3"),
        over(1.0, 1.0, number="2"),
        over(1.0, 1e30, number="1"),
    ],
)
def test_metrics_are_of_no_more_requests_than_were_asked_for(
    metrics: dict[str, float],
) -> None:
    """A party cannot outvote the others, nor evaluate rounds that have not been."""
    asked = {1: 3.0, 2: 0.0}
    honest = over(1.0, 3.0)
    assert dict(encode_metrics(read_evaluation(write_numbers(honest), asked))) == honest
    with pytest.raises(StatisticsError, match="in which it can have"):
        read_evaluation(write_numbers(metrics), asked)


def test_a_list_of_numbers_is_no_metric() -> None:
    """Flower allows it; the protocol does not."""
    record = MetricRecord(
        {"round.1.sum.rewrite_acc": [1.0], "round.1.count.rewrite_acc": 1.0}
    )
    with pytest.raises(StatisticsError, match="metrics"):
        read_evaluation(RecordDict({"metrics": record}))
