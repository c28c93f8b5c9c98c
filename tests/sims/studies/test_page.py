"""The page of a study, and its numbers as files."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from editing.requests.edit_request import EditRequest
from server.config import RunConfig
from server.report.data import RoundMetrics
from sims.studies.page import (
    Account,
    explain_spread,
    name_row,
    write_numbers,
    write_page,
    write_seconds,
)
from sims.studies.study import Figure, Study, Trial, TrialResult
from tests.chromium import PROGRAM, browsing
from tests.pages import read_page
from tests.sims.studies.made_up import result_of

ACCOUNT = Account(command="python -m sims study a", seconds=3.0, settings={"b": [1]})
TABLE = pd.DataFrame({"Success": [50.0, None]}, index=["γ = 0", "<b>"])
NUMBERS = pd.DataFrame({"seed": [0, 1], "success": [25.0, 75.0]})


class MadeUp(Study):
    """A study of numbers that are known before."""

    name = "made-up"
    title = "A & B"
    question = "Is A < B?"
    scenario = Path("none.toml")

    def trials(
        self, pool: Sequence[EditRequest], config: RunConfig, seed: int
    ) -> list[Trial]:
        """Nothing is run."""
        raise NotImplementedError

    def tabulate(self, results: Sequence[TrialResult]) -> pd.DataFrame:
        """One row a result."""
        return pd.DataFrame([{"seed": each.seed, "half": 0.5} for each in results])

    def draw(self, frame: pd.DataFrame) -> list[Figure]:
        """Two figures of the same numbers."""
        del frame
        one = Figure("One", "Higher is better.", "data:image/svg+xml,1", TABLE, NUMBERS)
        two = Figure("Two", "Lower is.", "data:image/svg+xml,2", TABLE, NUMBERS * 2)
        return [one, two]

    def state(self, frame: pd.DataFrame) -> str:
        """Say how many rows there were."""
        return f"{len(frame)} rows, A < B."


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Write the page of two results."""
    results = [
        result_of(
            Trial("t", (((),),), labels={"x": "y"}),
            [RoundMetrics()],
            tmp_path / "runs" / "t",
            seed,
        )
        for seed in (0, 4)
    ]
    assert write_page(MadeUp(), results, ACCOUNT, tmp_path) == "2 rows, A < B."
    return tmp_path


def test_each_figure_has_its_numbers_in_a_file(page: Path) -> None:
    """In the order of the page."""
    for place, factor in ((1, 1), (2, 2)):
        read = pd.read_csv(page / f"figure_{place}.csv")
        pd.testing.assert_frame_equal(read, NUMBERS * factor)


def test_the_record_holds_finding_rows_settings_and_where_runs_lie(page: Path) -> None:
    """By paths that stay true when the folder is moved."""
    record = json.loads((page / "study.json").read_text())
    assert record["finding"] == "2 rows, A < B."
    assert record["rows"] == [{"seed": 0, "half": 0.5}, {"seed": 4, "half": 0.5}]
    assert record["settings"] == {"b": [1]}
    assert [trial["folder"] for trial in record["trials"]] == ["runs/t", "runs/t"]
    assert [trial["seed"] for trial in record["trials"]] == [0, 4]
    assert record["trials"][0]["labels"] == {"x": "y"}


def test_the_page_needs_nothing_else_and_takes_no_text_for_markup(page: Path) -> None:
    """Names of rows come from settings, which may hold anything."""
    html = (page / "report.html").read_text()
    assert "2 rows, A &lt; B." in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert set(re.findall(r'src="([^"]*)"', html)) == {
        "data:image/svg+xml,1",
        "data:image/svg+xml,2",
    }
    assert "http" not in html.replace('<meta http-equiv="Content-Security-Policy"', "")
    assert ACCOUNT.command in html
    assert "means over 2 seeds" in html
    (header,) = read_page(html).all("header")
    assert [each.text for each in header.all("pre")] == [ACCOUNT.command]
    assert "collabedit-flower" in header.text


def test_one_seed_has_no_spread() -> None:
    """And the page does not speak of any."""
    assert explain_spread({3}) == ""


def test_the_page_is_there_as_markdown(page: Path) -> None:
    """With the same finding and tables."""
    text = (page / "report.md").read_text()
    assert "2 rows, A < B." in text
    assert "| γ = 0 | 50.0 |" in text
    assert "| <b> | – |" in text
    assert "Numbers: figure_2.csv." in text


def test_a_row_may_have_several_names() -> None:
    """A comma separates them."""
    assert name_row(("a", 3)) == "a, 3"
    assert name_row("a") == "a"


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (150, "2 min 30 s")]
)
def test_times_are_written_in_minutes_and_seconds(seconds: float, written: str) -> None:
    """Rounded before they are split."""
    assert write_seconds(seconds) == written


def test_no_number_file_holds_a_formula() -> None:
    """Neither in a heading nor in a cell; numbers stay numbers."""
    frame = pd.DataFrame(
        {"=name": ["=cmd()", "plain"], "party": ["@x", None], "gap": [-1.5, 2.0]}
    )
    text = write_numbers(frame)
    assert text.splitlines() == [
        "'=name,party,gap",
        "'=cmd(),'@x,-1.5",
        "plain,,2.0",
    ]


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not here")
def test_the_page_fits_a_phone_and_a_desk(page: Path) -> None:
    """And nothing in it is refused or fails."""
    with browsing() as browser:
        for width in (1400, 390):
            browser.show(page / "report.html", width)
            assert browser.run("document.documentElement.scrollWidth") <= width
        named = "[...document.querySelectorAll('button')].map((each) => each.innerText)"
        assert browser.run(named) == ["Success", "Success"]
        assert browser.console == []
