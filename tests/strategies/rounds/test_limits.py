"""What a party may say of itself is bounded by what the settings give it."""

from collections.abc import Sequence

import pytest
import torch

from editing.algebra.statistics import LayerStatistics, StatisticsError
from editing.evaluation.metrics import MetricSums
from strategies.partitioning.settings import PartiesConfig
from strategies.rounds.limits import (
    Limits,
    OverflowingUpdateError,
    require_finite,
    validate_same_edits,
)
from strategies.wire.messages import TargetsReply
from strategies.wire.metrics import EvaluationSums, write_evaluation
from tests.strategies.transport import over_the_wire

PARTIES = PartiesConfig(
    count=3,
    requests_per_round=((4, 2, 0), (1, 8, 2)),
    overlap=0.5,
    planted_conflicts=1,
    allow_empty=True,
)


def statistics(*counts: int) -> dict[int, LayerStatistics]:
    """Make statistics of layers 0, 1 and so on with these counts."""
    square = torch.eye(2, dtype=torch.float64)
    return {
        layer: LayerStatistics.of_sums(square, square, count)
        for layer, count in enumerate(counts)
    }


@pytest.mark.parametrize(
    ("number", "sizes"), [(1, (6, 5, 0)), (2, (3, 9, 7)), (9, (3, 9, 7))]
)
def test_a_party_has_its_own_requests_and_those_planted_at_it(
    number: int, sizes: Sequence[int]
) -> None:
    """The last sizes hold for all later rounds; a pool has everybody's."""
    own = [Limits(PARTIES).requests_of(number, place) for place in range(3)]
    assert own == list(sizes)
    pool = Limits(PARTIES, pooled=True)
    assert pool.requests_of(number, 0) == sum(sizes)
    for stranger in (-1, 3):
        assert Limits(PARTIES).requests_of(number, stranger) == max(sizes)
    assert Limits().requests_of(number, 0) == float("inf")


def test_all_rounds_so_far_may_be_evaluated_and_before_any_edit_the_first() -> None:
    """And none that are still to come."""
    limits = Limits(PARTIES)
    assert limits.requests_until(0, 0) == limits.requests_until(1, 0) == {1: 6.0}
    assert limits.requests_until(3, 2) == {1: 0.0, 2: 7.0, 3: 7.0}


@pytest.mark.parametrize(
    "targets",
    [
        TargetsReply(requests=7),
        TargetsReply(requests=10**6),
        TargetsReply(requests=10**400),
        TargetsReply(requests=3, known=4),
        TargetsReply(requests=0, known=0, left_out=7),
    ],
)
def test_nobody_has_more_requests_than_it_takes(targets: TargetsReply) -> None:
    """However they are divided, and in an error of bounded length."""
    limits = Limits(PARTIES)
    limits.validate_targets(TargetsReply(requests=3, known=2, left_out=1), 1, 0)
    with pytest.raises(StatisticsError, match="more requests than the 6") as caught:
        limits.validate_targets(targets, 1, 0)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "targets",
    [
        {"requests": 3, "known": 1, "residual_norm": 41.0},
        {"requests": 3, "known": 1, "residual_norm": 1e308},
        {"requests": 3, "known": 1, "residual_ratio": 13.0},
        {"requests": 0, "residual_norm": 1.0},
        {"requests": 0, "residual_ratio": 1.0},
    ],
)
def test_targets_are_no_farther_away_than_any_can_be(targets: dict[str, float]) -> None:
    """The report shows their mean."""
    limits = Limits(PARTIES, residual_norm=10.0, residual_ratio=3.0)
    honest = TargetsReply(requests=3, known=1, residual_norm=40.0, residual_ratio=12.0)
    limits.validate_targets(honest, 1, 0)
    with pytest.raises(StatisticsError, match=r"run\.max-residual-ratio"):
        limits.validate_targets(TargetsReply.model_validate(targets), 1, 0)


@pytest.mark.parametrize("count", [3, 4, 9])
def test_each_request_is_edited_with_its_phrasings(count: int) -> None:
    """Some may have fewer wordings than asked for."""
    limits = Limits(PARTIES, phrasings=2)
    targets = TargetsReply(requests=3)
    assert limits.count_edits(statistics(count, count), targets) == count


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((10, 10), "layer 0: a count of 10 .* 3 requests, which are 9 edits"),
        ((2**62, 2**62), "layer 0"),
        ((2, 2), "layer 0"),
        ((0, 0), "a count of 0"),
        ((-5, -5), "a count of -5"),
        ((6, 2**62), "layer 1: a count of"),
        ((6, 7), "layer 1: a count of 7 was sent, and 6 edits"),
    ],
)
def test_a_count_that_its_requests_cannot_make_is_refused(
    counts: Sequence[int], reason: str
) -> None:
    """Bounds on norms are of means over it."""
    limits = Limits(PARTIES, phrasings=2)
    with pytest.raises(StatisticsError, match=reason):
        limits.count_edits(statistics(*counts), TargetsReply(requests=3))


def test_later_layers_are_sums_over_as_many_edits_as_the_first() -> None:
    """All layers of a round speak of the same requests."""
    validate_same_edits(statistics(4, 4), 4)
    validate_same_edits(statistics(4, 5), None)
    validate_same_edits({}, 4)
    with pytest.raises(StatisticsError, match="layer 1: a count of 5"):
        validate_same_edits(statistics(4, 5), 4)


def test_metrics_are_validated_against_the_party_that_sends_them() -> None:
    """Its number says how many requests it can have evaluated."""
    limits, total = (
        Limits(PARTIES),
        MetricSums({"rewrite_acc": 5.0}, {"rewrite_acc": 6}),
    )
    reply = over_the_wire(write_evaluation(EvaluationSums({1: total})))
    assert limits.read_evaluation(reply, 1, 0).of_round(1) == total
    with pytest.raises(StatisticsError, match="in which it can have 5"):
        limits.read_evaluation(reply, 1, 1)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (torch.nan, torch.float64),
        (torch.inf, torch.float64),
        (1e39, torch.float32),
        (1e39, torch.bfloat16),
        (1e5, torch.float16),
    ],
)
def test_an_update_that_no_weight_can_take_stops_before_it_goes_out(
    value: float, dtype: torch.dtype
) -> None:
    """The error names whose statistics it is made of."""
    names = ["hospital-a", "party 1"]
    update = torch.ones(3, 5, dtype=torch.float64)
    require_finite({"h.weight": update}, dtype, names)
    update[1, 2] = value
    with pytest.raises(OverflowingUpdateError) as caught:
        require_finite({"h.weight": update}, dtype, names)
    for part in ("`h.weight`", "hospital-a, party 1", "float"):
        assert part in str(caught.value)
