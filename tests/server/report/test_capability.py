"""The capability curve: its points, its files, its place in a report and a run."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.evaluation import summarise
from server.report.capability import (
    draw_capability,
    lay_out_capability,
    measure_points,
)
from server.report.data import Report, read_report
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.writing import write_report
from strategies.scenario import FlatValue
from tests.server.report.test_data import make_report
from tests.server.runs import Runs, fail_with

CURVE = {2: 130.0, 3: 1.5e6}
"""Made up: the perplexity after these of three rounds."""

ID = "perplexity.half-windows.v1.text-0123456789ab"


def make_measured() -> Report:
    """Make a report of two merges that are measured after some of three rounds."""
    report = make_report(3, collabedit=90.0, ties=10.0)
    runs = [
        run.model_copy(
            update={
                "definitions": {"perplexity": ID},
                "metrics": tuple(
                    metrics.model_copy(
                        update={
                            "requests": 4,
                            "capability": {"perplexity": CURVE[number]}
                            if number in CURVE
                            else {},
                        }
                    )
                    for number, metrics in enumerate(run.metrics, start=1)
                ),
            }
        )
        for run in report.runs
    ]
    assert report.unedited is not None
    unedited = report.unedited.model_copy(update={"capability": {"perplexity": 120.0}})
    return Report(runs=tuple(runs), unedited=unedited)


def test_the_unedited_model_is_the_first_point_of_every_merge() -> None:
    """Edits add up over all rounds, measured or not."""
    points = measure_points(make_measured())
    one = points[points["merge"] == "ties"]
    assert one["edits"].tolist() == [0, 8, 12]
    assert one["round"].tolist() == [0, 2, 3]
    assert one["perplexity"].tolist() == [120.0, *CURVE.values()]
    assert points["merge"].tolist() == ["collabedit"] * 3 + ["ties"] * 3


def test_the_curve_is_in_every_form_of_the_report(tmp_path: Path) -> None:
    """JSON with its definition, CSV, Markdown, and a figure with its table."""
    write_report(make_measured(), tmp_path)
    run = read_report(tmp_path / "report.json").runs[1]
    assert run.define_metrics()["perplexity"] == ID
    lines = list(csv.DictReader((tmp_path / "capability.csv").open()))
    assert [line["value"] for line in lines[3:]] == ["120.0", "130.0", "1500000.0"]
    assert {line["definition"] for line in lines} == {ID}
    assert "| ties | 3 | 12 | 1.5e+06 |" in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Capability</h2>" in page
    assert "Lines against the number of edits" in page
    assert draw_capability(make_measured()).startswith("data:image/svg")


def test_a_report_without_a_curve_says_nothing_of_it(tmp_path: Path) -> None:
    """As one of an earlier version."""
    report = make_report(3)
    assert lay_out_capability(report).is_empty
    assert draw_capability(report) == ""
    assert "apability" not in render_markdown(report) + render_page(report)
    write_report(report, tmp_path)
    assert not (tmp_path / "capability.csv").exists()


@pytest.mark.training
def test_a_run_measures_where_it_is_due_and_resumes_to_the_same_curve(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever rounds evaluate requests; another text is not resumed with."""
    whole, text = runs.output.with_name("whole"), tmp_path / "own.txt"
    text.write_bytes((runs.world / "text.txt").read_bytes()[:400])
    curve: dict[str, FlatValue] = {"text": str(text), "every": 2, "tokens": 50}
    tables: dict[str, dict[str, FlatValue]] = {
        "parties": {"requests-per-round": 1},
        "run": {"rounds": 3, "name": "night"},
        "evaluation": {"every": 3},
        "capability": curve,
    }
    expected = runs.run(output={"directory": str(whole)}, **tables)
    metrics = [each.capability for each in expected.runs[0].metrics]
    assert [len(each) for each in metrics] == [0, 1, 1]
    assert metrics[1] != metrics[2]
    assert expected.unedited is not None
    assert expected.unedited.capability
    output: dict[str, FlatValue] = {"checkpoint": str(tmp_path / "kept")}
    with monkeypatch.context() as patch:
        stop = fail_with(KeyboardInterrupt())
        calls: Iterator[Callable[..., object]] = iter([*[summarise] * 3, stop])

        def stop_at_last(*given: object) -> object:
            return next(calls)(*given)

        patch.setattr("server.merging.summarise", stop_at_last)
        with pytest.raises(KeyboardInterrupt):
            runs.run(output=output, **tables)
    text.write_text("another text")
    with pytest.raises(InputError, match=r"inputs\.capability_text"):
        runs.run(output=output, **tables)
    text.write_bytes((runs.world / "text.txt").read_bytes()[:400])
    found = runs.run(output=output, **tables)
    assert [each.capability for each in found.runs[0].metrics] == metrics
    assert found.unedited == expected.unedited
