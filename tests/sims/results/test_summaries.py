"""One table over folders of results, on the screen and in files."""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from editing.base.errors import InputError
from server.report.data import Report, RoundMetrics
from server.report.writing import write_report
from sims.results.folders.runs import find_runs
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


def write_trial(folder: Path, scores: Sequence[float], merge: str = "ties") -> None:
    """Leave the report of a run of so many rounds, as real nodes do: without cases."""
    rounds = tuple(
        RoundMetrics(
            rewrite_success=score,
            paraphrase_success=score,
            neighborhood_success=score,
            evaluated=10 * number,
        )
        for number, score in enumerate(scores, start=1)
    )
    last = rounds[-1].model_copy(update={"by_round": rounds})
    run = (
        make_report()
        .runs[0]
        .model_copy(update={"merge": merge, "metrics": (*rounds[:-1], last)})
    )
    folder.mkdir(parents=True)
    write_report(Report(runs=(run,)), folder)
    (folder / "trial.json").write_text("{}")


def test_reports_are_averaged_where_there_are_no_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of real nodes, and of a study's or paper's trials over their seeds.

    A run's mean is over all its cases, of each round as many as it has.
    """
    monkeypatch.chdir(tmp_path)
    study = Path("results") / "study-scale" / "run_000"
    for seed, scores in enumerate([(40.0, 70.0), (100.0, 40.0)]):
        write_trial(study / "runs" / f"seed_{seed}" / "ties_10", scores)
    (study / "study.json").write_text("{}")
    (study / "requests" / "seed_0").mkdir(parents=True)
    (study / "requests" / "seed_0" / "ties_10.json").write_text("[]")
    write_trial(Path("deployed"), [50.0])
    summarize([Path("results"), Path("deployed")], outputs=[Path("a.csv")])
    table = pd.read_csv("a.csv", comment="#").set_index("results")
    assert list(table.index) == ["ties_10 (2 runs)", "deployed"]
    means = [(10 * 40 + 20 * 70) / 30, (10 * 100 + 20 * 40) / 30]
    row = table.loc["ties_10 (2 runs)"]
    assert row["rewrite_success"] == pytest.approx(sum(means) / 2)
    gap = abs(means[0] - means[1])
    assert row["rewrite_success.deviation"] == pytest.approx(gap / math.sqrt(2))
    assert (row["runs"], row["cases"]) == (2, 60)
    assert table.loc["deployed", "score"] == pytest.approx(50)
    assert "not read" not in Path("a.csv").read_text()


def test_a_table_is_written_in_latex_and_as_a_page(
    results: Path,
) -> None:
    """With the same figures as on the screen."""
    summarize([results], outputs=[Path("a.tex"), Path("a.html"), Path("a.md")])
    lines = Path("a.md").read_text().split("\n")
    (row,) = [line for line in lines if line.startswith("| MEMIT")]
    figures = re.findall(r"(?<![-\d])\d+\.\d+ ± \d+\.\d+", row)
    assert figures
    for figure in figures:
        assert figure.replace("±", r"$\pm$") in Path("a.tex").read_text()
        assert f"<td>{figure}</td>" in Path("a.html").read_text()


def test_the_first_cases_of_a_report_cannot_be_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so, and does not average others in their place."""
    write_trial(tmp_path / "deployed", [50.0])
    write_ours(tmp_path / "mine", [draw_case(0)])
    summarize([tmp_path], first=1)
    said = " ".join(capsys.readouterr().out.split())
    assert "holds no case files, of which --first takes some" in said


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
    for outputs in (["b.csv", "a.md"], ["b.csv", "c.pdf"]):
        with pytest.raises(InputError, match=outputs[1]):
            summarize([results], outputs=[Path(each) for each in outputs])
    assert Path("a.md").read_text() == "mine"
    assert not Path("b.csv").exists()
