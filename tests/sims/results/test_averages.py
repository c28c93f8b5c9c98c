"""Averages over cases and runs are what their definitions say."""

from pathlib import Path
from statistics import mean, pstdev, stdev
from typing import Any

import pytest

from editing.base.errors import InputError
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.definitions import define
from sims.results.averages import (
    Summary,
    SummaryRow,
    average,
    name_groups,
    summarize_runs,
)
from sims.results.folders.runs import Fault, find_runs
from sims.results.summary_tables import write_csv
from tests.sims.case_folders import (
    KINDS,
    draw_case,
    draw_question,
    measure,
    write_collabedits,
    write_memits,
    write_ours,
)

SINGLE = 1e-6
"""Absolute difference that probabilities in single precision leave."""

Case = dict[str, Any]


def draw_cases(count: int, seed: int = 0) -> list[Case]:
    """Draw cases enough for every success to be above zero."""
    return [draw_case(number, seed) for number in range(count)]


def score_of(means: dict[str, float]) -> float:
    """The score by its definition."""
    return 3 / sum(1 / means[f"{kind}_success"] for kind in KINDS)


def means_of(cases: list[Case]) -> dict[str, float]:
    """A run's metrics by their definitions."""
    metrics = [measure(case) for case in cases]
    names = {name for each in metrics for name in each}
    means = {
        name: mean(each[name] for each in metrics if name in each) for name in names
    }
    return means | {"score": score_of(means)}


def the_row(folder: Path) -> SummaryRow:
    """Summarise a folder that makes one row."""
    summary = summarize_runs(find_runs(folder))
    (row,) = summary.rows
    assert summary.faults == ()
    return row


def test_one_run_strays_over_its_cases(tmp_path: Path) -> None:
    """The deviation is that of all cases there are, and the score has none."""
    cases = draw_cases(9)
    write_memits(tmp_path / "MEMIT" / "run_003", cases)
    row = the_row(tmp_path)
    measured = [measure(case) for case in cases]
    spread = {name: pstdev(each[name] for each in measured) for name in measured[0]}
    assert (row.label, row.over, row.runs, row.cases) == (
        "MEMIT/run_003",
        "cases",
        1,
        9,
    )
    assert row.means == pytest.approx(means_of(cases), abs=SINGLE)
    assert row.deviations == pytest.approx(spread, abs=SINGLE)


def test_several_runs_stray_over_runs(tmp_path: Path) -> None:
    """Each run counts once, however many cases it has; the score strays as well."""
    runs = [draw_cases(9, seed=1), draw_cases(4, seed=2), draw_cases(6, seed=3)]
    for number, cases in enumerate(runs):
        write_ours(tmp_path / "collabedit" / f"run_{number:03d}", cases)
    row = the_row(tmp_path)
    by_run = [means_of(cases) for cases in runs]
    means = {name: mean(each[name] for each in by_run) for name in by_run[0]}
    means["score"] = score_of(means)
    spread = {name: stdev(each[name] for each in by_run) for name in by_run[0]}
    assert (row.label, row.over, row.runs, row.cases) == (
        "collabedit (3 runs)",
        "runs",
        3,
        19,
    )
    assert row.means == pytest.approx(means, abs=SINGLE)
    assert row.deviations == pytest.approx(spread, abs=SINGLE)


def test_the_first_cases_are_averaged_alone(tmp_path: Path) -> None:
    """As if the others were not there."""
    cases = draw_cases(9)
    write_ours(tmp_path, cases)
    (row,) = summarize_runs(find_runs(tmp_path), first=5).rows
    assert row.cases == 5
    assert row.means == pytest.approx(means_of(cases[:5]), abs=SINGLE)


def test_parts_of_runs_are_averaged_with_their_like(tmp_path: Path) -> None:
    """Levels of CollabEdit apart, and a part that one run alone has, by its run."""
    for run, level in [
        (0, "global_edit"),
        (1, "global_edit"),
        (2, "collaborative_edit"),
    ]:
        folder = tmp_path / "CollabEdit" / f"run_{run:03d}"
        write_collabedits(folder, draw_cases(6, seed=run), level)
    rows = {row.label: row.runs for row in summarize_runs(find_runs(tmp_path)).rows}
    assert rows == {
        "CollabEdit/global_edit (2 runs)": 2,
        "CollabEdit/run_002/collaborative_edit": 1,
    }


def test_questions_without_another_object_have_accuracies_alone(
    tmp_path: Path,
) -> None:
    """No success, and so no score."""
    write_memits(tmp_path, [draw_question(number) for number in range(3)])
    assert set(the_row(tmp_path).means) == {f"{kind}_acc" for kind in KINDS}


def answered(number: int, *, exact: bool, tokens: int | None) -> Case:
    """Make a case with one generated answer; without an id if `tokens` is None."""
    case = draw_case(number)
    case["post"]["rewrite_prompts_generated_exact"] = [exact]
    if tokens is not None:
        name = "rewrite_generated_exact"
        case["definitions"] = {
            name: define(name, EvaluationConfig(answer_tokens=tokens))
        }
    return case


def test_unlike_figures_are_never_averaged(tmp_path: Path) -> None:
    """Within a run, over runs and in one column; those without an id are the usual."""
    for run, tokens in enumerate((8, 32, None)):
        cases = [answered(number, exact=run == 0, tokens=tokens) for number in (0, 1)]
        write_ours(tmp_path / "ours" / f"run_{run:03d}", cases)
    mixed = [
        answered(0, exact=True, tokens=8),
        answered(1, exact=False, tokens=32),
        answered(2, exact=True, tokens=32),
    ]
    write_ours(tmp_path / "mixed", mixed)
    usual = "rewrite_generated_exact"
    short = f"{usual}.wild.rewrite.generated-exact.v1.tokens-8"
    rows = {row.label: row for row in summarize_runs(find_runs(tmp_path)).rows}
    found = {
        label: {name: row.means[name] for name in (usual, short)}
        for label, row in rows.items()
    }
    assert found == {
        "ours (3 runs)": {usual: 0.0, short: 100.0},
        "mixed": {usual: 50.0, short: 100.0},
    }
    table = write_csv(Summary(tuple(rows.values()), ())).splitlines()[0].split(",")
    assert table.index(short) == table.index(usual) + 2  # next to it and its deviation


def test_figures_that_are_alike_keep_their_names(tmp_path: Path) -> None:
    """Whatever their definition: there is one column anyway."""
    write_ours(tmp_path, [answered(n, exact=True, tokens=8) for n in range(2)])
    means = the_row(tmp_path).means
    assert means["rewrite_generated_exact"] == 100.0
    assert not any(".tokens-" in name or "tokens-8" in name for name in means)


def test_accuracies_by_token_stand_apart_from_those_of_whole_objects(
    tmp_path: Path,
) -> None:
    """MEMIT writes both under one name, those of zsRE without likelihoods."""
    write_memits(tmp_path / "zsre", [draw_question(0)])
    write_memits(tmp_path / "mcf", [draw_case(0)])
    rows = {row.label: row.means for row in summarize_runs(find_runs(tmp_path)).rows}
    assert "rewrite_acc" in rows["mcf"]
    assert "rewrite_acc" not in rows["zsre"]
    assert "rewrite_acc.zsre.rewrite.teacher-forced-token.v1" in rows["zsre"]


def test_a_metric_measured_once_has_no_deviation() -> None:
    """Neither over cases nor over runs."""
    one = average(
        "", [[{"rewrite_acc": 50.0, "ngram_entropy": 1.0}, {"rewrite_acc": 0}]]
    )
    assert one.deviations == {"rewrite_acc": 25.0}
    two = average(
        "", [[{"rewrite_acc": 50.0, "ngram_entropy": 1.0}], [{"rewrite_acc": 0}]]
    )
    assert set(two.means) == {"rewrite_acc", "ngram_entropy"}
    assert set(two.deviations) == {"rewrite_acc"}


def test_a_score_is_zero_where_a_success_is() -> None:
    """Its harmonic mean has that limit."""
    successes = {f"{kind}_success": 90.0 for kind in KINDS}
    row = average("", [[successes | {"rewrite_success": 0.0}]])
    assert row.means["score"] == 0


def test_editors_of_one_name_stay_apart(tmp_path: Path) -> None:
    """By their paths; the others keep their names."""
    old, new, other = Path("old/MEMIT"), Path("new/MEMIT"), Path("new/ROME")
    assert name_groups([old, new, other]) == {
        old: "old/MEMIT",
        new: "new/MEMIT",
        other: "ROME",
    }
    for folder in (old, new):
        write_memits(tmp_path / folder / "run_000", draw_cases(3))
    assert {row.label for row in summarize_runs(find_runs(tmp_path)).rows} == {
        f"{tmp_path / folder}/run_000" for folder in (old, new)
    }


def test_faults_are_returned_together_with_what_was_read(tmp_path: Path) -> None:
    """Those found before and those of the files."""
    write_ours(tmp_path, draw_cases(3))
    (tmp_path / "case_9.json").write_text("")
    before = Fault(tmp_path / "x", "no results found")
    summary = summarize_runs(find_runs(tmp_path), faults=[before])
    assert [fault.path.name for fault in summary.faults] == ["x", "case_9.json"]
    assert [row.cases for row in summary.rows] == [3]


def test_runs_of_which_nothing_can_be_read_are_refused(tmp_path: Path) -> None:
    """Naming the first file and its fault."""
    for number in (0, 1):
        (tmp_path / f"case_{number}.json").write_text("{}")
    with pytest.raises(InputError, match=r"of 2 .*case_0.json: `case_id`: is missing"):
        summarize_runs(find_runs(tmp_path))
