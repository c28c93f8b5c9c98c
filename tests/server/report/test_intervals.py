"""Laws of error bars: Wilson's interval, what has one, and what is drawn."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.container import BarContainer, ErrorbarContainer

from editing.evaluation.metrics import MetricSums
from server.evaluation import average
from server.report.data import Report, RoundMetrics
from server.report.intervals import (
    CAPTION,
    LEVEL,
    PART_LEVEL,
    find_interval,
    wilson,
)
from server.report.page import render_page
from tests.server.report.test_data import bars_of, make_report

ROUNDING = 1e-9
COUNTED = RoundMetrics(
    score=75.0,
    rewrite_success=75.0,
    paraphrase_success=75.0,
    neighborhood_success=75.0,
    rewrite_diff=0.5,
    evaluated=40,
    counts={"paraphrase_success": 10},
    groups={"paraphrase_success.same_direction": 50.0, "ngram_entropy": 50.0},
)


@given(right=st.integers(0, 60), wrong=st.integers(0, 60))
def test_the_interval_holds_the_shares_that_the_count_does_not_exclude(
    right: int, wrong: int
) -> None:
    """Its ends are the two roots of (p − q)² = z² q (1 − q) / n, and p lies between."""
    count = max(right + wrong, 1)
    share = right / count
    low, high = wilson(share, count)
    assert 0 <= low <= share <= high + ROUNDING
    assert high <= 1
    for end in (low, high):
        distance = LEVEL * math.sqrt(end * (1 - end) / count)
        assert abs(abs(share - end) - distance) < 1e-7


@pytest.mark.parametrize("level", [LEVEL, PART_LEVEL])
def test_levels_are_those_of_a_normal_variable(level: float) -> None:
    """95 %, and for three at once a third of what is left for each."""
    left = 1 - math.erf(level / math.sqrt(2))
    assert left == pytest.approx(0.05 if level == LEVEL else 0.05 / 3, rel=1e-5)


def test_fewer_requests_make_a_wider_interval() -> None:
    """A metric that fewer requests have is over those alone."""
    wide = find_interval(COUNTED, "paraphrase_success")
    narrow = find_interval(COUNTED, "rewrite_success")
    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < 75 < narrow[1] < wide[1]
    assert narrow == tuple(100 * end for end in wilson(0.75, 40))


def test_the_score_lies_within_its_parts_scores() -> None:
    """All parts at their lower ends, and all at their upper ones."""
    found = find_interval(COUNTED, "score")
    ends = [wilson(0.75, count, PART_LEVEL) for count in (40, 10, 40)]
    naive = [3 / sum(1 / (100 * end[side]) for end in ends) for side in (0, 1)]
    assert found == pytest.approx(tuple(naive))


@pytest.mark.parametrize("name", ["rewrite_diff", "ngram_entropy", "paraphrase_acc"])
def test_what_is_no_share_has_no_interval(name: str) -> None:
    """Nor has what was not measured, or is over nobody knows how many requests."""
    assert find_interval(COUNTED, name) is None
    uncounted = COUNTED.model_copy(update={"evaluated": None, "counts": {}})
    assert find_interval(uncounted, "rewrite_success") is None
    assert find_interval(uncounted, "score") is None
    assert find_interval(COUNTED, "paraphrase_success.same_direction") is not None


def test_a_round_counts_what_fewer_requests_have() -> None:
    """Of the other metrics, the number of requests evaluated is the count."""
    sums = MetricSums(
        {"rewrite_acc": 3.0, "rewrite_success": 2.0, "paraphrase_success": 1.5},
        {"rewrite_acc": 4, "rewrite_success": 4, "paraphrase_success": 2},
    )
    found = average(sums)
    assert found.evaluated == 4
    assert found.counts == {"paraphrase_success": 2}


def test_bars_reach_to_the_ends_of_their_intervals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page says what they are, and says nothing where there are none."""
    plain = make_report(collabedit=75.0)
    run = plain.runs[0].model_copy(update={"metrics": (COUNTED,)})
    report = Report(runs=(run,))
    (axes,) = bars_of(report, monkeypatch)
    bars = [each for each in axes.containers if isinstance(each, BarContainer)]
    names = ("score", "rewrite_success", "paraphrase_success", "neighborhood_success")
    for bar, name in zip(bars, names, strict=True):
        assert isinstance(bar.errorbar, ErrorbarContainer)
        ((_, low), (_, high)) = bar.errorbar.lines[2][0].get_segments()[0]
        assert (low, high) == pytest.approx(find_interval(COUNTED, name))
    assert CAPTION.split("(")[0] in render_page(report)
    assert "Error bars" not in render_page(plain)
