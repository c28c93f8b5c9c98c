"""Every study shows generated answers next to teacher-forced ones."""

import json
from pathlib import Path

import pandas as pd
import pytest

from editing.base.errors import InputError
from editing.evaluation.config import EvaluationConfig
from server.report.data import RoundMetrics
from sims.studies.answers import check_alike, draw_answers
from sims.studies.page import write_page
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import report_of, result_of
from tests.sims.studies.test_page import ACCOUNT, MadeUp


def trial_of(
    folder: Path, exact: float, seed: int = 0, gamma: float = 0.0, tokens: int = 32
) -> TrialResult:
    """Make a trial of two rounds that answered after the last one."""
    figures = {"rewrite_acc": 90.0, "rewrite_generated_exact": exact, "evaluated": 9.0}
    rounds = [RoundMetrics(), RoundMetrics(all_edits=figures)]
    trial = Trial("t", (((),),), labels={"γ": gamma})
    result = result_of(trial, rounds, folder, seed)
    named = report_of(rounds).define_metrics(EvaluationConfig(answer_tokens=tokens))
    report = result.report.model_copy(update={"definitions": named})
    return TrialResult(seed, trial, report, result.unedited, result.folder)


def test_trials_are_averaged_over_seeds(tmp_path: Path) -> None:
    """In a figure of the page with its numbers as CSV; the others stay as they are."""
    results = [
        trial_of(tmp_path / "runs" / f"t{seed}", exact, seed, gamma)
        for seed, exact, gamma in ((0, 20.0, 0.0), (1, 40.0, 0.0), (0, 80.0, 1.0))
    ]
    write_page(MadeUp(), results, ACCOUNT, tmp_path)
    numbers = pd.read_csv(tmp_path / "figure_3.csv")
    assert list(numbers["rewrite_generated_exact"]) == [20.0, 40.0, 80.0]
    (figure,) = draw_answers(results)
    assert figure.table["rewrite_generated_exact"].to_dict() == {
        "0.0": 30.0,
        "1.0": 80.0,
    }
    text = (tmp_path / "report.md").read_text()
    assert "## Generated answers" in text
    assert "| 0.0 | 90.0 | 30.0 |" in text
    ids = json.loads((tmp_path / "study.json").read_text())["definitions"]
    assert ids["rewrite_generated_exact"].endswith(".tokens-32")


def test_a_study_without_answers_has_no_such_figure(tmp_path: Path) -> None:
    """As one of an earlier version."""
    trial = Trial("t", (((),),))
    assert draw_answers([result_of(trial, [RoundMetrics()], tmp_path)]) == []


def test_trials_of_unlike_definitions_are_refused(tmp_path: Path) -> None:
    """By the metric and both ids."""
    long, short = trial_of(tmp_path, 10.0), trial_of(tmp_path, 10.0, tokens=8)
    check_alike([long, long])
    with pytest.raises(InputError, match=r"`rewrite_generated_exact`.*32 and .*-8:"):
        check_alike([long, short])
