"""Laws of the page of single requests: its figures, its privacy, its text."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from editing.evaluation.cases import sum_cases
from server.report.writing import write_report
from sims.case_page import (
    HEADS,
    MOST_SHOWN,
    NAME,
    collect,
    render_case_page,
    write_case_page,
    write_mean,
)
from tests.chromium import PROGRAM, browsing
from tests.pages import read_page, rows_of
from tests.server.report.test_data import make_report


def case(number: int, new: float, true: float, **others: object) -> dict[str, Any]:
    """Write a case, whose two paraphrases and neighbours fall out unlike."""
    pair = {"target_new": new, "target_true": true}
    other = {"target_new": true, "target_true": new}
    post = {
        "rewrite_prompts_probs": [pair],
        "rewrite_prompts_correct": [new < 1],
        "paraphrase_prompts_probs": [pair, other],
        "paraphrase_prompts_correct": [True, False],
        "neighborhood_prompts_probs": [pair],
        "neighborhood_prompts_correct": [new > true],
        "rewrite_prompts_generated": ["Rome </td><script>"],
    }
    asked = {
        "prompt": "{} lives in",
        "subject": "Ada <b>",
        "target_new": {"str": "Rome"},
        "target_true": {"str": "Oslo"},
    }
    rest = {"requested_rewrite": asked, "party": 2, "round": 1}
    return {"case_id": number, "post": post | others, **rest}


CASES = [case(3, 0.1, 3.0), case(12, 2.0, 0.5), case(5, 0.7, 0.6)]


def test_shares_are_those_of_the_case_files() -> None:
    """Request by request, as the system itself reduces them; also where none is."""
    cases = [*CASES, case(9, 0.1, 3.0, objects_agree=True)]
    for each in cases:
        own = collect([each])
        naive = sum_cases([each]).sums
        assert own == {name: [naive[name]] for name in own}
        assert {name for name in naive if name.endswith(("success", "acc"))} == set(own)


def test_a_mean_has_its_standard_error() -> None:
    """The deviation of the requests' own values, by the root of their number."""
    values = [1.0, 0.0, 0.0, 0.5]
    error = 100 * statistics.stdev(values) / 2
    assert write_mean(values) == f"37.5 ± {error:.1f}"
    assert write_mean([0.5]) == "50.0"
    assert write_mean([]) == "–"


def test_a_request_is_shown_before_and_after() -> None:
    """Success and probability; a dash where nothing was evaluated. Text is text."""
    page = read_page(render_case_page({"ties": CASES}, {3: case(3, 2.3026, 0.1)}))
    means, requests = page.all("table")
    heads, first, second, _ = rows_of(requests)
    assert heads == HEADS
    assert dict(zip(HEADS, first, strict=True)) == {
        "Case": "3",
        "Prompt": "Ada <b> lives in",
        "New object": "Rome",
        "Old object": "Oslo",
        "Answer": "Rome </td><script>",
        "Party": "2",
        "Round": "1",
        "Success before": "no",
        "Success": "yes",
        "p(new) before": "10.0",
        "p(new)": "90.5",
        "Paraphrases": "50.0",
        "Neighbours": "0.0",
    }
    assert second[7:9] == ["–", "no"]
    assert rows_of(means)[1][:3] == ["ties", "3", "33.3 ± 33.3"]
    assert len(page.all("script")) == 1


def test_a_long_table_says_what_it_leaves_out() -> None:
    """A browser is to open it."""
    cases = [CASES[0]] * (MOST_SHOWN + 1)
    table = read_page(render_case_page({"ties": cases}, {})).all("table")[1]
    assert len(rows_of(table)) == 1 + MOST_SHOWN
    assert f"The first {MOST_SHOWN} of {MOST_SHOWN + 1} requests" in table.text


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_page_admits_its_owner_alone(tmp_path: Path, rounds: int) -> None:
    """As the cases do. Merges stand in the order of the report; no case, no page."""
    write_report(make_report(collabedit=90.0, ties=4.0), tmp_path)
    write_case_page({}, tmp_path, rounds)
    assert not (tmp_path / NAME).exists()
    lines = [json.dumps(each) for each in CASES]
    found = {name: {0: lines[:1], rounds: lines} for name in ("ties", "collabedit")}
    write_case_page(found, tmp_path, rounds)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    page = read_page((tmp_path / NAME).read_text())
    titles = [each.text for each in page.all("h2")]
    assert titles[1:3] == ["collabedit", "ties"]


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not here")
def test_the_page_fits_a_phone_and_is_sorted(tmp_path: Path) -> None:
    """Its tables scroll within their boxes; cases are sorted as numbers."""
    page = tmp_path / NAME
    page.write_text(render_case_page({"ties": CASES}, {}), encoding="utf-8")
    table = "document.querySelectorAll('table')[1]"
    with browsing() as browser:
        for width in (1400, 390):
            browser.show(page, width)
            assert browser.run("document.documentElement.scrollWidth") <= width
        browser.run(f"{table}.querySelector('button').click()")
        rows = f"[...{table}.tBodies[0].rows].map((row) => row.cells[0].textContent)"
        assert browser.run(rows) == ["3", "5", "12"]
        assert browser.console == []
