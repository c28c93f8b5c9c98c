"""One table over folders of results, on the screen and in files."""

import io
from pathlib import Path

import pandas as pd
import pytest

from editing.base.errors import InputError
from server.report.writing import write_report
from sims.results.cases import find_runs
from sims.results.summaries import choose_runs, summarize
from tests.server.report.test_data import make_report
from tests.sims.case_folders import (
    draw_case,
    measure,
    write_collabedits,
    write_memits,
    write_ours,
)

SINGLE = 1e-6
"""Absolute difference that probabilities in single precision leave."""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lend results of all three writers, a case each, and go where they lie."""
    monkeypatch.chdir(tmp_path)
    folder = Path("results")
    for run in (0, 3):
        write_memits(folder / "MEMIT" / f"run_{run:03d}", [draw_case(run)])
        place = folder / "CollabEdit" / f"run_{run:03d}"
        write_collabedits(place, [draw_case(run)], "global_edit")
    ours = folder / "compare" / "run_000"
    for merge in ("ties", "global"):
        write_ours(ours / merge, [draw_case(5)])
    write_report(make_report(), ours)
    return folder


def labels(text: str) -> list[str]:
    """Read the names of the rows of a CSV file."""
    return list(pd.read_csv(io.StringIO(text), comment="#")["results"])


def test_results_of_all_writers_stand_in_one_table(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same on the screen and in each file."""
    outputs = [Path("tables") / f"all{form}" for form in (".csv", ".md", ".txt")]
    summarize([results], outputs=outputs)
    table, *texts = [path.read_text() for path in outputs]
    rows = [
        "CollabEdit/global_edit (2 runs)",
        "MEMIT (2 runs)",
        "compare/run_000/global",
        "compare/run_000/ties",
    ]
    assert labels(table) == rows
    for text in (*texts, capsys.readouterr().out):
        assert all(row in text for row in rows)
        assert "not read" not in text
    numbers = pd.read_csv(outputs[0], index_col="results").loc[rows[2]]
    for name, value in measure(draw_case(5)).items():
        assert numbers[name] == pytest.approx(value, abs=SINGLE)


@pytest.mark.parametrize("names", ["run_003", "3", " 003 ,3"])
def test_runs_are_chosen_by_name_or_number(results: Path, names: str) -> None:
    """Of every editor that has one of the name."""
    summarize([results], runs=names, outputs=[Path("a.csv")])
    assert labels(Path("a.csv").read_text()) == [
        "CollabEdit/run_003/global_edit",
        "MEMIT/run_003",
    ]


def test_a_run_that_nobody_has_is_refused(results: Path) -> None:
    """With the names of those there are."""
    with pytest.raises(InputError, match="no run '7'; there are run_000, run_003"):
        choose_runs(find_runs(results), "0,7")


def test_the_first_cases_of_each_run_are_taken(results: Path) -> None:
    """As many as asked for."""
    write_memits(results / "MEMIT" / "run_003", [draw_case(n) for n in range(4, 9)])
    summarize([results / "MEMIT"], first=2, outputs=[Path("a.csv")])
    (cases,) = pd.read_csv("a.csv")["cases"]
    assert cases == 1 + 2


def test_what_was_not_read_is_named_on_the_screen_and_in_files(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken file, an unknown one, and a folder without results."""
    (results / "MEMIT" / "run_000" / "10_edits-case_1.json").write_text("{")
    (results / "MEMIT" / "run_000" / "cases.json").write_text("[]")
    Path("empty").mkdir()
    outputs = [Path(f"all{form}") for form in (".csv", ".md", ".txt")]
    summarize([results, Path("empty")], outputs=outputs)
    texts = [path.read_text() for path in outputs]
    for text in (*texts, capsys.readouterr().out):
        assert "3 files or folders were not read:" in text
        assert "results/MEMIT/run_000/10_edits-case_1.json: not JSON" in text
        assert "results/MEMIT/run_000/cases.json: no case file by its name" in text
        assert "empty: no results found" in text


@pytest.mark.usefixtures("results")
def test_folders_without_results_are_refused() -> None:
    """Saying what was looked for."""
    Path("empty").mkdir()
    with pytest.raises(InputError, match="looked for case_<id>"):
        summarize([Path("empty")])


def test_an_output_that_exists_is_kept_and_one_of_no_form_refused(
    results: Path,
) -> None:
    """Before anything is read or written."""
    Path("a.md").write_text("mine")
    for outputs in (["b.csv", "a.md"], ["b.csv", "c.html"]):
        with pytest.raises(InputError, match=outputs[1]):
            summarize([results], outputs=[Path(each) for each in outputs])
    assert Path("a.md").read_text() == "mine"
    assert not Path("b.csv").exists()
