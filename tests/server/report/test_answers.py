"""Generated answers stand next to teacher-forced ones, and unlike figures nowhere."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from editing.base.errors import InputError
from editing.evaluation.config import EvaluationConfig
from server.report.data import Report, RunReport, read_report
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.tables import lay_out
from server.report.writing import write_report
from sims.console import tabulate
from tests.server.report.test_data import make_report

FIGURES = {
    "rewrite_success": 99.0,
    "rewrite_acc": 97.5,
    "rewrite_generated_exact": 38.5,
    "rewrite_generated_contains": 44.25,
    "evaluated": 200.0,
}
HEADS = {
    "Evaluated": "200",
    "Rewrite accuracy": "97.5",
    "Rewrite generated, exact": "38.5",
    "Rewrite generated, contained": "44.2",
}


def make_answered(config: EvaluationConfig | None = None) -> Report:
    """Make a report of one merge whose answers were generated."""
    (run,) = make_report(collabedit=90.0).runs
    groups = {"rewrite_generated_exact": 40.0}
    last = run.metrics[0].model_copy(update={"all_edits": FIGURES, "groups": groups})
    run = run.model_copy(update={"metrics": (last,)})
    named = run.define_metrics(config)
    return Report(runs=(run.model_copy(update={"definitions": named}),))


def test_benchmarks_own_metrics_stand_in_it() -> None:
    """Over all edits, and with the ids of their definitions in JSON."""
    figures = {"mquake_multi_hop_acc": 12.5, "wikibigedit_multi_hop_acc": 62.5}
    (run,) = make_answered().runs
    last = run.metrics[0].model_copy(update={"all_edits": FIGURES | figures})
    run = run.model_copy(update={"metrics": (last,)})
    named = run.define_metrics()
    report = Report(runs=(run.model_copy(update={"definitions": named}),))
    table = lay_out(report, "answers")
    shown = dict(zip(table.heads, table.rows[0], strict=True))
    assert shown["MQuAKE multi-hop"] == "12.5"
    assert shown["WikiBigEdit multi-hop"] == "62.5"
    assert "MQuAKE multi-hop" in render_page(report)
    assert named["mquake_multi_hop_acc"].startswith("mquake.multi-hop.generated-any")


def test_all_edits_have_a_table_of_their_own() -> None:
    """In Markdown, on the page and on the screen; figures of one round stay in JSON."""
    report = make_answered()
    text, page = render_markdown(report), render_page(report)
    table = lay_out(report, "answers")
    assert dict(zip(table.heads, table.rows[0], strict=True)) == {
        "Merge": "collabedit",
        **HEADS,
    }
    console = Console(width=300, record=True)
    console.print(tabulate(report, 300))
    shown = console.export_text()
    for head, value in HEADS.items():
        assert head in text
        assert head in page
        assert value in shown
    assert "40.0" not in text


def test_a_report_without_generated_answers_says_nothing_of_them() -> None:
    """As one of an earlier version."""
    report = make_report()
    assert lay_out(report, "answers").is_empty
    assert "enerated" not in render_markdown(report) + render_page(report)


def test_metrics_carry_the_ids_of_their_definitions(tmp_path: Path) -> None:
    """In JSON, and they are read back."""
    write_report(make_answered(EvaluationConfig(answer_tokens=8)), tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    ids = written["runs"][0]["definitions"]
    assert ids["rewrite_generated_exact"] == (
        "wild.rewrite.generated-exact.v1.tokens-8"
    )
    assert ids["rewrite_acc"] == "counterfact.rewrite.teacher-forced.v1"
    assert ids.keys() >= set(FIGURES) - {"evaluated"} | {"score"}
    assert read_report(tmp_path / "report.json").runs[0].definitions == ids


def test_unlike_definitions_stand_in_no_report(tmp_path: Path) -> None:
    """Runs with answers of 8 tokens and of 32; the ids are named."""
    (long,) = make_answered().runs
    (short,) = make_answered(EvaluationConfig(answer_tokens=8)).runs
    short = short.model_copy(update={"merge": "ties"})
    alike = long.model_copy(update={"merge": "ties"})
    assert Report(runs=(long, alike)).runs == (long, alike)
    path = tmp_path / "report.json"
    dumped = [run.model_dump(mode="json") for run in (long, short)]
    path.write_text(json.dumps({"runs": dumped}))
    with pytest.raises(InputError, match=r"tokens-32, wild.*tokens-8"):
        read_report(path)


def test_figures_without_ids_are_what_they_were() -> None:
    """An earlier report's are those of the default definitions, and stand by ours."""
    old = make_answered().runs[0].model_dump(mode="json", exclude={"definitions"})
    earlier = RunReport.model_validate_json(json.dumps(old | {"merge": "ties"}))
    assert earlier.definitions == {}
    (ours,) = make_answered().runs
    assert earlier.define_metrics() == ours.define_metrics() == ours.definitions
    assert len(Report(runs=(ours, earlier)).runs) == 2
