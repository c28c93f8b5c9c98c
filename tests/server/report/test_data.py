"""Laws of the report: its tables, its sentences and its page."""

import base64
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report import plots
from server.report.data import (
    LeftOutParty,
    PartyWeight,
    Report,
    RoundMetrics,
    RunReport,
)
from server.report.frame import SORTING
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.plots import DARK, choose_panels, draw_bars
from server.report.tables import (
    best_merges,
    columns_of,
    comparison,
    write_bytes,
    write_number,
)

MERGES = {"collabedit": 93.21, "global": 93.18, "ties": 4.0, "simple-average": 0.0}


def measured(score: float) -> RoundMetrics:
    """Make a round's metrics that differ by the score."""
    return RoundMetrics(
        score=score,
        rewrite_success=min(score + 1.5, 100),
        paraphrase_success=score / 2,
        neighborhood_success=99.5,
        rewrite_diff=0.123,
        groups={"paraphrase_success.across": score / 4},
    )


def make_report(rounds: int = 1, **scores: float) -> Report:
    """Make a report with a run for each merge."""
    return Report(
        runs=tuple(
            RunReport(
                merge=merge,
                schedule="layerwise",
                rounds=rounds,
                metrics=tuple(measured(score - number) for number in range(rounds)),
                relative_difference_to_global=None if merge == "ties" else 2.5e-15,
                seconds=12.3,
                bytes_per_party=41_234,
                settings={"parties": {"count": 3}, "note": "</pre><b>&"},
            )
            for merge, score in (scores or MERGES).items()
        ),
        unedited=measured(0.5),
    )


def refused(reason: str) -> Report:
    """Make a report with one party left out."""
    run = make_report().runs[0]
    refusal = LeftOutParty(node=2**62, name="party 17", reason=reason)
    metrics = run.metrics[0].model_copy(update={"refusals": (refusal,)})
    return Report(runs=(run.model_copy(update={"metrics": (metrics,)}),))


def rows_of(markdown: str) -> dict[str, list[str]]:
    """Read the first table of a Markdown text, a row by its first cell."""
    table = markdown.split("\n\n")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table]
    return {row[0]: row[1:] for row in cells}


def test_the_table_has_a_row_for_each_merge() -> None:
    """Score and successes in per cent, difference, seconds and bytes."""
    rows = rows_of(render_markdown(make_report()))
    assert list(rows) == ["Merge", ":--", "(unedited)", *MERGES]
    heads = dict(zip(rows["Merge"], rows["collabedit"], strict=True))
    assert heads == {
        "Score": "93.2",
        "Rewrite success (ES)": "94.7",
        "Paraphrase success (PS)": "46.6",
        "Neighbourhood success (NS)": "99.5",
        "Difference to global": "2.5e-15",
        "Seconds": "12.3",
        "Sent per party": "41.2 kB",
    }
    assert rows["ties"][4] == "–"
    assert rows["(unedited)"][4:] == ["–", "–", "–"]


def test_the_last_round_is_compared() -> None:
    """Earlier rounds stand in a table of their own."""
    text = render_markdown(make_report(rounds=3, collabedit=90.0))
    assert rows_of(text)["collabedit"][0] == "88.0"
    assert "| collabedit | 2 | 89.0 |" in text
    assert "Round" not in render_markdown(make_report(collabedit=90.0))


def test_merges_that_score_alike_are_best_together() -> None:
    """A difference that is not printed decides nothing."""
    assert best_merges(make_report()) == ["collabedit", "global"]


def test_a_part_of_the_prompts_is_named_after_its_metric() -> None:
    """Paraphrases in the other direction are reported apart."""
    text = render_markdown(make_report())
    assert "| Rewrite difference | Paraphrase success (PS), across |" in text


def test_a_metric_that_nobody_asked_for_has_no_column() -> None:
    """Nor has it a number."""
    report = make_report()
    assert "paraphrase_acc" in comparison(report)
    details = columns_of(report, "details")
    assert details == ["rewrite_diff", "paraphrase_success.across"]


def test_the_page_needs_nothing_but_itself() -> None:
    """No address, and no script, style or picture from elsewhere."""
    page = render_page(make_report(rounds=2))
    assert "://" not in page
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module">']
    assert SORTING in page
    assert not re.search(r"<(link|iframe)|@import|url\(|import\(|fetch", page)
    sources = re.findall(r'src="([^"]{0,22})', page)
    assert sources == ["data:image/svg+xml;base64"[:22]] * 2


def test_what_each_party_weighs_is_shown_if_it_is_known() -> None:
    """The largest leverage first; a name is no markup."""
    weights = tuple(
        PartyWeight(name=name, leverage=leverage, share=2.0, layer=4)
        for name, leverage in (("small", 0.5), ("<b>large</b>", 7.25))
    )
    run = make_report(collabedit=90.0).runs[0]
    metrics = (run.metrics[0].model_copy(update={"weights": weights}),)
    report = Report(runs=(run.model_copy(update={"metrics": metrics}),))
    page, text = render_page(report), render_markdown(report)
    assert "What each party weighs" in page
    assert "&lt;b&gt;large&lt;/b&gt;" in page
    assert "<dt>Leverage</dt>" in page
    assert page.count("Norm of its part of the update") == 2
    assert text.index("| 7.25 |") < text.index("| 0.5 |")
    unknown = Report(runs=(run,))
    assert "weighs" not in render_page(unknown) + render_markdown(unknown)


def test_the_page_can_be_read_aloud() -> None:
    """Pictures have words, tables name rows and columns, the language is named."""
    page = render_page(make_report(rounds=2))
    assert '<html lang="en">' in page
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", page))
    rows = re.findall(r"<tr[^>]*>.*?</tr>", page, re.DOTALL)
    assert rows
    assert all("<th scope=" in row for row in rows)
    assert page.count("<caption>") == page.count("<table")


def test_what_a_party_caused_is_shown_as_text() -> None:
    """A reason is no markup, in the page and in a Markdown table."""
    page = render_page(refused("NaN <script>alert(1)</script>"))
    assert "<script>" not in page
    assert "NaN &lt;script&gt;" in page
    assert "party 17: NaN" in render_markdown(refused("NaN"))
    assert "&lt;/pre&gt;" in page


def without_true_targets(rounds: int = 1) -> Report:
    """Make a report of requests as zsRE has them: accuracies, and no success."""
    tokens = {"rewrite_token_acc": 91.5, "paraphrase_token_acc": 82.5}
    metrics = RoundMetrics(
        groups={**tokens, "locality_acc": 73.5, "essence_score": 9.5}
    )
    whole = make_report(rounds)
    runs = tuple(
        run.model_copy(update={"metrics": (metrics,) * rounds}) for run in whole.runs
    )
    return Report(runs=runs, unedited=metrics)


@pytest.mark.parametrize("rounds", [1, 2])
def test_accuracies_stand_first_where_there_is_no_success(rounds: int) -> None:
    """In place of the empty columns, by round too, and nowhere twice."""
    accuracies = ["rewrite_token_acc", "paraphrase_token_acc", "locality_acc"]
    report = without_true_targets(rounds)
    assert columns_of(report, "overview")[:3] == accuracies
    assert columns_of(report, "overview")[3] == "relative_difference_to_global"
    assert columns_of(report, "rounds")[:3] == (accuracies if rounds > 1 else [])
    assert columns_of(report, "details") == ["essence_score"]
    text = render_markdown(report)
    assert rows_of(text)["collabedit"][:3] == ["91.5", "82.5", "73.5"]
    assert "harmonic" not in text
    assert "accuracies in per cent" in render_page(report)
    scored = report.runs[0].model_copy(update={"metrics": (measured(3.0),) * rounds})
    mixed = report.model_copy(update={"runs": (*report.runs, scored)})
    assert (
        columns_of(mixed, "overview")[:4] == columns_of(make_report(), "overview")[:4]
    )
    assert set(accuracies) < set(columns_of(mixed, "details"))


def test_accuracies_stand_first_where_all_objects_are_equal() -> None:
    """Such requests have accuracies of whole objects alone, and no success."""
    metrics = RoundMetrics(rewrite_acc=91.5, paraphrase_acc=82.5)
    run = make_report().runs[0].model_copy(update={"metrics": (metrics,)})
    report = Report(runs=(run,), unedited=metrics)
    assert columns_of(report, "overview")[:2] == ["rewrite_acc", "paraphrase_acc"]
    assert "rewrite_acc" not in columns_of(report, "details")
    text = render_markdown(report)
    assert rows_of(text)["collabedit"][:2] == ["91.5", "82.5"]
    assert "differs from its new one" in text
    assert "accuracies in per cent" in render_page(report)


def test_a_run_without_scores_is_reported() -> None:
    """Requests may have neither paraphrases nor neighbours."""
    run = make_report().runs[0].model_copy(update={"metrics": (RoundMetrics(),)})
    report = Report(runs=(run,))
    assert rows_of(render_markdown(report))["collabedit"][:4] == ["–"] * 4
    page = render_page(report)
    assert "highest" not in page
    assert "<img" not in page


def test_a_party_is_named_and_never_numbered_by_its_node() -> None:
    """In Markdown and on the page; without a name, words stand for it."""
    report = refused("it is late")
    for text in (render_markdown(report), render_page(report)):
        assert "party 17: it is late" in text
        assert str(2**62) not in text
    assert LeftOutParty(node=2**62, reason="x").label == "a party without a name"


def bars_of(report: Report, monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """Draw a report's bars, and keep their axes in the place of the picture."""
    figures: list[Figure] = []

    def keep(draw: Callable[[Figure], None], width: float) -> str:
        figures.append(Figure(figsize=(width, 3)))
        draw(figures[-1])
        return "data:"

    with monkeypatch.context() as patch:
        patch.setattr(plots, "render", keep)
        draw_bars(report)
    return [axes for figure in figures for axes in figure.axes]


def test_an_absent_metric_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the table shows a dash; a measured 0 is a bar of height 0."""
    report = make_report(collabedit=90.0, ties=0.0)
    first, second = report.runs
    metrics = first.metrics[0].model_copy(
        update={"score": None, "neighborhood_success": None}
    )
    lacking = first.model_copy(update={"metrics": (metrics,)})
    (axes,) = bars_of(
        report.model_copy(update={"runs": (lacking, second)}), monkeypatch
    )
    heights = [[bar.get_height() for bar in group] for group in axes.containers]
    assert np.isnan(heights[0][0])
    assert np.isnan(heights[3][0])
    assert heights[0][1] == 0
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["", "0", "92", "2", "45", "0", "", "100"]


def test_bars_show_accuracies_where_no_score_is_defined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the headings of the table."""
    (axes,) = bars_of(without_true_targets(), monkeypatch)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "Rewrite accuracy by token",
        "Paraphrase accuracy by token",
        "Locality accuracy",
    ]
    heights = [group[0].get_height() for group in axes.containers]
    assert heights == [91.5, 82.5, 73.5]
    page = render_page(without_true_targets(2))
    assert "<h2>Accuracies</h2>" in page
    assert "Score and its three parts" not in page
    assert choose_panels(without_true_targets(2)) == [
        "rewrite_token_acc",
        "paraphrase_token_acc",
    ]


def test_the_page_and_its_pictures_have_dark_colours() -> None:
    """The reader's preference decides; every colour of the page is a variable."""
    page = render_page(make_report())
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    (encoded,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page)
    picture = base64.b64decode(encoded).decode()
    assert "prefers-color-scheme:dark" in picture
    for light in DARK:
        assert f": {light.lower()}" not in picture
    rules = page.split("* { box-sizing")[1].split("</style>")[0]
    assert not re.findall(r"#[0-9a-f]{3,6}\b", rules)


def test_a_wide_table_scrolls_and_keeps_its_labels() -> None:
    """On a phone no column is lost."""
    page = render_page(make_report(rounds=2))
    assert page.count('<div class="scroll"') == page.count("<table") + page.count(
        "<img"
    )
    assert "position: sticky; left: 0" in page


@given(count=st.integers(0, 10**12))
def test_bytes_are_written_to_three_digits(count: int) -> None:
    """In a unit that leaves the number below a thousand."""
    units = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    number, unit = write_bytes(count).split()
    assert abs(float(number) * units[unit] - count) <= 0.05 * units[unit] + 1e-9 * count
    assert float(number) <= 1000


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0"), (3.14e-15, "3.1e-15"), (1.4, "1.4")]
)
def test_small_differences_keep_their_size(value: float | None, text: str) -> None:
    """They are the point of the table."""
    assert write_number("relative_difference_to_global", value) == text


@pytest.mark.parametrize("masked", [True, False])
def test_a_report_says_what_the_gate_measured_and_whether_sums_were_masked(
    *, masked: bool
) -> None:
    """Nothing of the gate if it is open, or of masks if the settings lack them."""
    run = make_report(collabedit=90.0).runs[0]
    plain = Report(runs=(run,))
    metrics = run.metrics[0].model_copy(update={"gate": "held-out facts fell"})
    settings = {**run.settings, "privacy": {"secure_sum": masked}}
    run = run.model_copy(update={"metrics": (metrics,), "settings": settings})
    gated = Report(runs=(run,))
    said = "sums masked (" if masked else "sums not masked ("
    for render in (render_page, render_markdown):
        assert "collabedit, round 1 accepted: held-out facts fell" in render(gated)
        assert said in render(gated).replace("Sums", "sums")
        assert "Release gate" not in render(plain)
        assert "masked (" not in render(plain)
