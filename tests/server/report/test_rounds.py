"""Laws of a report of several rounds: what is retained, and what was asked."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from server.report.data import Report, RoundMetrics
from server.report.diagnosis import diagnose
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.plots import (
    choose_panels,
    describe_rounds,
    draw_panel,
    draw_rounds,
)
from server.report.tables import summarise
from tests.server.report.test_data import MERGES, make_report, measured, rows_of


def make_rounds(rounds: int, **changes: object) -> Report:
    """Make a report whose rounds say what they have retained and what they edited."""

    def remember(number: int, metrics: RoundMetrics) -> RoundMetrics:
        asked = tuple(measured(50.0 - place) for place in range(number))
        retained = measured(60.0).model_copy(update={"rewrite_acc": 63.0 - number})
        return metrics.model_copy(
            update={
                "retained": retained if number > 1 else None,
                "by_round": asked,
                "requests": 12,
                "residual_norm": 3.25,
                "residual_ratio": 0.5,
                **changes,
            }
        )

    report = make_report(rounds)
    runs = tuple(
        run.model_copy(
            update={
                "metrics": tuple(
                    remember(number, each)
                    for number, each in enumerate(run.metrics, start=1)
                )
            }
        )
        for run in report.runs
    )
    return report.model_copy(update={"runs": runs})


def section_of(markdown: str, title: str) -> list[dict[str, str]]:
    """Read the table of a section, a row by its headings."""
    table = markdown.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


numbers = st.none() | st.floats(0, 100)
plain_metrics = st.builds(
    RoundMetrics,
    score=numbers,
    rewrite_acc=numbers,
    groups=st.dictionaries(st.sampled_from("ab"), st.floats(0, 1), max_size=2),
    requests=st.none() | st.integers(0, 9),
    known=st.integers(0, 2),
    residual_norm=numbers,
)


def within(inner: st.SearchStrategy[RoundMetrics]) -> st.SearchStrategy[RoundMetrics]:
    """Make metrics that hold others."""
    lists = st.lists(inner, max_size=2).map(tuple)
    return st.builds(RoundMetrics, score=numbers, retained=inner, by_round=lists)


@given(metrics=st.recursive(plain_metrics, within, max_leaves=5))
def test_rounds_within_rounds_are_read_back_as_they_were(metrics: RoundMetrics) -> None:
    """Though nothing is written of what they do not know."""
    text = metrics.model_dump_json()
    assert RoundMetrics.model_validate_json(text) == metrics
    written = json.loads(text)
    for inner in [*written["by_round"], written["retained"] or {}]:
        assert None not in inner.values()


def test_reports_of_earlier_versions_are_read() -> None:
    """They say nothing of retention and residuals, and so do their tables."""
    metrics = {"score": 90.0, "rewrite_success": 95.0, "groups": {}, "refusals": []}
    run = {
        "merge": "ties",
        "schedule": "layerwise",
        "rounds": 2,
        "metrics": [metrics, metrics],
        "seconds": 1.0,
        "bytes_per_party": 5.0,
    }
    report = Report.model_validate_json(json.dumps({"runs": [run], "unedited": None}))
    text = render_markdown(report)
    assert list(section_of(text, "Round by round")[0]) == [
        "Merge",
        "Round",
        "Score",
        "Rewrite success (ES)",
        "Paraphrase success (PS)",
        "Neighbourhood success (NS)",
    ]
    assert "## Requests" not in text
    page = render_page(report)
    assert "etention" not in page
    assert "esidual" not in page


def test_one_round_looks_the_same_whatever_it_says_of_requests() -> None:
    """There is nothing earlier, and nothing was left out."""
    assert render_markdown(make_rounds(1)) == render_markdown(make_report())
    assert render_page(make_rounds(1)) == render_page(make_report())


def test_every_round_has_what_it_retained_in_its_row() -> None:
    """Of all earlier rounds; the first has none."""
    first, second, third, *_ = section_of(
        render_markdown(make_rounds(3)), "Round by round"
    )
    assert first["Retention"] == first["Score, earlier"] == "–"
    assert (second["Retention"], third["Retention"]) == ("61.0", "60.0")
    assert third["Score"] == "91.2"
    assert third["Score, earlier"] == "60.0"
    assert third["Rewrite success (ES), earlier"] == "61.5"
    assert third["Paraphrase success (PS), earlier"] == "30.0"
    assert third["Neighbourhood success (NS), earlier"] == "99.5"


def test_the_comparison_has_the_retention_after_the_last_round() -> None:
    """If there was an earlier one."""
    rows = rows_of(render_markdown(make_rounds(3)))
    place = rows["Merge"].index("Retention")
    assert rows["ties"][place] == "60.0"
    assert rows["(unedited)"][place] == "–"
    assert "Retention" not in rows_of(render_markdown(make_rounds(1)))["Merge"]


def test_facts_never_edited_are_followed_if_they_were_measured() -> None:
    """Round by round."""
    shown = section_of(
        render_markdown(make_rounds(2, held_out_acc=98.75)), "Round by round"
    )
    assert shown[1]["Held-out accuracy"] == "98.8"


@pytest.mark.parametrize("rounds", [1, 2])
def test_what_was_left_out_is_counted(rounds: int) -> None:
    """Kinds that never occurred have no column."""
    report = make_rounds(rounds, known=2, conflicts=1)
    assert section_of(render_markdown(report), "Requests")[0] == {
        "Merge": "collabedit",
        "Round": "1",
        "Requests edited": "12",
        "Known already": "2",
        "Conflicts": "1",
        "Residual": "3.2",
        "Relative residual": "0.500",
    }
    page = render_page(report)
    assert "<dt>Conflicts</dt>" in page
    assert "<dt>Duplicates</dt>" not in page


def test_the_summary_says_what_the_best_merges_retained() -> None:
    """Merges that retain the same are named together."""
    sentence = "still answers 61.0 per cent (collabedit and global) of the requests"
    assert sentence in summarise(make_rounds(2))
    assert "still answers" not in summarise(make_rounds(1))


def test_each_panel_is_drawn_if_it_was_measured() -> None:
    """The score always, and words say what is there."""
    assert choose_panels(make_report(rounds=2)) == ["score"]
    assert choose_panels(make_rounds(2)) == ["score", "retention"]
    held_out = make_rounds(2, held_out_acc=98.0)
    assert choose_panels(held_out) == ["score", "retention", "held_out_acc"]
    used = make_rounds(2, budget=130.0)
    assert choose_panels(used) == ["score", "retention", "budget"]
    assert "budget in use" in describe_rounds(used)
    assert draw_rounds(used) != draw_rounds(make_rounds(2, budget=90.0))
    (words,) = re.findall(r'alt="(Lines[^"]*)"', render_page(make_rounds(2)))
    assert "score of the round&#39;s own requests; retention" in words
    assert "held-out" not in words


def test_a_line_has_a_gap_where_nothing_was_evaluated() -> None:
    """No request is not a score of nothing."""
    report, axes = make_rounds(3), Figure().add_subplot()
    draw_panel(axes, report, "retention")
    assert [line.get_label() for line in axes.lines] == list(MERGES)
    for line in axes.lines:
        points = np.asarray(line.get_xydata()).tolist()
        assert points[1:] == [[2, 61], [3, 60]]
        assert points[0][0] == 1
        assert math.isnan(points[0][1])
        is_bound = line.get_label() == "global"
        assert (line.get_linestyle(), line.get_fillstyle()) == (
            ("--", "none") if is_bound else ("-", "full")
        )


def test_a_round_that_was_not_evaluated_is_absent_and_not_zero() -> None:
    """Its requests are counted; no table, line or warning makes a metric up."""
    whole = make_rounds(3)
    runs = tuple(
        run.model_copy(
            update={
                "metrics": (RoundMetrics(requests=12), RoundMetrics(), run.metrics[2])
            }
        )
        for run in whole.runs
    )
    sparse = whole.model_copy(update={"runs": runs})
    for row in section_of(render_markdown(sparse), "Round by round"):
        evaluated = row["Round"] == "3"
        shown = {value for name, value in row.items() if name not in {"Merge", "Round"}}
        assert (shown == {"–"}) != evaluated
    first, second, *_ = section_of(render_markdown(sparse), "Requests")
    assert (first["Requests edited"], second["Requests edited"]) == ("12", "–")
    assert first["Residual"] == "–"
    assert summarise(sparse) == summarise(whole)
    assert [diagnose(run) for run in runs] == [[]] * len(runs)
    axes = Figure().add_subplot()
    draw_panel(axes, sparse, "score")
    for line in axes.lines:
        heights = np.asarray(line.get_ydata()).tolist()
        assert [math.isnan(height) for height in heights] == [True, True, False]
    assert "Round by round" in render_page(sparse)


@pytest.mark.parametrize("rounds", [2, 10, 57])
def test_rounds_are_numbered_so_that_the_numbers_can_be_read(rounds: int) -> None:
    """With whole numbers, at most ten."""
    axes = Figure().add_subplot()
    draw_panel(axes, make_rounds(rounds), "score")
    ticks = axes.get_xticks().tolist()
    assert len(ticks) == len(set(ticks)) <= 10
    assert all(tick in range(1, rounds + 1) for tick in ticks)
    assert rounds > 10 or ticks == list(range(1, rounds + 1))
