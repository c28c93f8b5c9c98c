"""A warning names each thing that keeps an edit from working, and what to try."""

import json
from pathlib import Path

import pytest
import torch

from server.report.data import Report, RoundMetrics, RunReport
from server.report.diagnosis import diagnose, diagnose_update, relative_norms
from server.report.markdown import render_markdown
from server.report.page import render_page
from server.report.tables import columns_of, lay_out, list_warnings
from server.report.writing import write_report
from tests.server.report.test_data import make_report

HEALTHY = RoundMetrics(
    score=90.0,
    target_loss=0.04,
    target_probability=0.96,
    target_stopped=0.9,
    target_clamped=0.1,
    residual_left=0.02,
)
WEIGHT = "transformer.h.3.mlp.c_proj.weight"


def run_of(
    *metrics: RoundMetrics, ratio: float = 0.01, merge: str = "ties"
) -> RunReport:
    """Make a run of some rounds whose update has a relative norm."""
    return (
        make_report()
        .runs[0]
        .model_copy(
            update={
                "merge": merge,
                "rounds": len(metrics),
                "metrics": metrics,
                "update_ratios": {"another.weight": ratio / 2, WEIGHT: ratio},
            }
        )
    )


def changed(**changes: float | None) -> RoundMetrics:
    """Return healthy metrics with some others."""
    return HEALTHY.model_copy(update=changes)


def test_a_healthy_run_has_no_warning() -> None:
    """Nor has one of which nothing was measured."""
    assert diagnose(run_of(HEALTHY, HEALTHY)) == []
    nothing = run_of(RoundMetrics()).model_copy(update={"update_ratios": {}})
    assert diagnose(nothing) == []


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (
            changed(target_stopped=0.1, target_probability=0.2),
            ("10% of the targets", "p(new) is 0.20", "`editing.v-num-grad-steps`"),
        ),
        (
            changed(target_stopped=0.1, target_probability=None),
            (
                "10% of the targets reach the stopping loss: raise",
                "`editing.v-lr`",
            ),
        ),
        (
            changed(target_clamped=0.8, target_probability=0.2, target_stopped=0.1),
            ("80% of the targets are at the clamp", "`editing.clamp-norm-factor`"),
        ),
        (
            changed(residual_left=0.97),
            ("97% of the residual is left", "lower the prior weight", "less alike"),
        ),
    ],
)
def test_each_fault_of_a_round_has_one_warning_that_says_what_to_try(
    metrics: RoundMetrics, words: tuple[str, ...]
) -> None:
    """The round is named where there are several."""
    (warning,) = diagnose(run_of(metrics))
    assert all(each in warning for each in words)
    (numbered,) = diagnose(run_of(HEALTHY, metrics))
    assert numbered == f"round 2: {warning}"


def test_a_target_that_yields_the_object_is_no_fault() -> None:
    """Even if the search did not stop early, or ended at the clamp."""
    assert diagnose(run_of(changed(target_stopped=0.0, target_clamped=1.0))) == []


def test_a_residual_of_targets_that_fail_is_no_fault_of_the_update() -> None:
    """The targets are named instead."""
    metrics = changed(target_stopped=0.0, target_probability=0.01, residual_left=86.32)
    (warning,) = diagnose(run_of(metrics))
    assert warning.startswith("0% of the targets reach the stopping loss")


def test_an_update_that_replaces_its_weight_is_named() -> None:
    """The largest one, with what makes updates smaller."""
    (warning,) = diagnose(run_of(HEALTHY, ratio=321.4))
    assert "‖Δ‖/‖W‖ is 321 in " + WEIGHT in warning
    assert "raise the prior weight" in warning
    assert "more text" in warning


@pytest.mark.parametrize(
    ("score", "ratio", "count"),
    [
        (100.0, 30.2, 0),  # a good edit of the embedded model
        (100.0, 321.4, 1),
        (None, 321.4, 1),
        (None, 30.2, 0),
        (0.0, 30.2, 1),
        (0.0, 0.01, 0),
    ],
)
def test_a_low_score_makes_a_smaller_update_suspect(
    score: float | None, ratio: float, count: int
) -> None:
    """A large update that does no harm is no fault."""
    assert len(diagnose(run_of(changed(score=score), ratio=ratio))) == count


@pytest.mark.parametrize(
    ("metrics", "count"),
    [
        (RoundMetrics(rewrite_success=0.0, rewrite_acc=90.0), 1),
        (RoundMetrics(rewrite_success=99.0, rewrite_acc=0.0), 0),
        (RoundMetrics(rewrite_acc=0.0), 1),
        (RoundMetrics(rewrite_acc=90.0), 0),
    ],
)
def test_without_a_score_rewrites_tell_whether_the_edit_failed(
    metrics: RoundMetrics, count: int
) -> None:
    """Requests may have neither paraphrases nor a true object."""
    assert len(diagnose(run_of(metrics, ratio=13.1))) == count


def test_relative_norms_are_those_of_update_and_weight() -> None:
    """Whatever the precision of the weight; one without a norm is left out."""
    weights = {
        "a": torch.full((3, 4), 2.0, dtype=torch.bfloat16),
        "b": torch.zeros(2, 2),
        "c": torch.ones(2, 2),
    }
    delta = {
        "a": torch.full((3, 4), 1.0, dtype=torch.float64),
        "b": torch.ones(2, 2),
        "c": torch.tensor([[torch.nan, 0.0], [0.0, 0.0]]),
    }
    assert relative_norms(delta, weights.__getitem__) == {"a": 0.5}


def test_the_report_shows_the_diagnosis_and_each_warning_once(tmp_path: Path) -> None:
    """In all three forms; merges that share a warning are named together."""
    runs = tuple(
        run.model_copy(update={"warnings": tuple(diagnose(run))})
        for run in (
            run_of(changed(residual_left=0.97), merge="ties"),
            run_of(changed(residual_left=0.97), ratio=321.4, merge="average"),
        )
    )
    report = Report(runs=runs)
    first, second = list_warnings(report)
    assert first.startswith("ties, average: 97% of the residual")
    assert second.startswith("average: ‖Δ‖/‖W‖ is 321")
    table = lay_out(report, "diagnosis")
    assert dict(zip(table.heads, table.rows[1], strict=True)) == {
        "Merge": "average",
        "Round": "1",
        "Target loss": "0.040",
        "p(new) at z": "96.0 %",
        "Reached the stop": "90.0 %",
        "At the clamp": "10.0 %",
        "Residual left": "0.970",
        "‖Δ‖/‖W‖": "321",
    }
    assert "target_loss" not in columns_of(report, "details")
    text, page = render_markdown(report), render_page(report)
    assert "## Diagnosis" in text
    assert "<h2>Diagnosis</h2>" in page
    for shown in (text, page):
        assert "97% of the residual is left" in shown
    write_report(report, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["runs"][0]["metrics"][0]["target_loss"] == 0.04
    assert written["runs"][1]["update_ratios"][WEIGHT] == 321.4
    assert written["runs"][1]["warnings"] == list(runs[1].warnings)


def test_without_a_measurement_there_is_no_diagnosis() -> None:
    """Nor an empty table of it."""
    assert lay_out(make_report(), "diagnosis").is_empty
    assert "Diagnosis" not in render_page(make_report())


def test_warnings_of_a_run_do_not_ask_for_opposites() -> None:
    """An update that is large and still writes nothing is not asked to be smaller."""
    (alone,) = diagnose_update({WEIGHT: 500.0}, 90.0)
    (both,) = diagnose_update({WEIGHT: 500.0}, 90.0, residual_left=True)
    assert "raise the prior weight" in alone
    assert "raise the prior weight" not in both
    run = run_of(RoundMetrics(residual_left=0.9))
    large = run.model_copy(update={"update_ratios": {WEIGHT: 500.0}})
    first, second = diagnose(large)
    assert "lower the prior weight" in first
    assert second == both
