"""What the study of long runs edits, reads and says."""

import json
import statistics
from pathlib import Path

import pandas as pd
import pytest

from editing.base.errors import InputError
from server.report.data import RoundMetrics
from sims.runs.jobs import execute
from sims.studies.lifelong.lines import (
    ANSWERS,
    FAMILIES,
    LINES,
    MEMORIES,
    NAMES,
    REFERENCE,
    of_family,
)
from sims.studies.lifelong.pages import TABLE, draw_family, last_round, spread_table
from sims.studies.lifelong.study import AGAIN, APART, KINDS, Lifelong
from sims.studies.page import lay_out
from sims.studies.pools import fact_of
from sims.studies.running.order import Order
from sims.studies.running.runner import run_study
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of, write_cases

STUDY = Lifelong()
SMALL = ("run.rounds=3", "parties.count=2", "parties.requests-per-round=2")
LOST = {name: place for place, name in enumerate(NAMES)}
"""How many of the first round's four edits a made-up line loses at most."""


def make_trials(subjects: int = 12, relations: int = 3) -> list[Trial]:
    """Give the trials of a small study."""
    pool = make_pool(subjects, relations)
    return STUDY.trials(pool, configure(STUDY, *SMALL), 0)


def test_every_editor_edits_the_same_requests_of_each_kind() -> None:
    """Without names that come again, and with; no fact is edited twice."""
    trials = make_trials()
    assert [t.labels["line"] for t in trials] == [*NAMES, *NAMES]
    assert len({trial.name for trial in trials}) == len(trials)
    subjects = {}
    for kind in (APART, AGAIN):
        own = {t.rounds for t in trials if t.labels["requests"] == kind}
        assert len(own) == 1
        asked = [request for parties in own.pop() for one in parties for request in one]
        assert len(asked) == 12
        assert len({fact_of(request) for request in asked}) == 12
        subjects[kind] = [request.subject for request in asked]
    assert len(set(subjects[APART])) == 12
    assert len(set(subjects[AGAIN])) == 4
    assert subjects[AGAIN][:4] == subjects[AGAIN][4:8] == subjects[AGAIN][8:]


def test_a_pool_too_small_leaves_a_kind_out_or_is_refused() -> None:
    """Subjects with one fact cannot come again."""
    assert {t.labels["requests"] for t in make_trials(12, 1)} == {APART}
    assert {t.labels["requests"] for t in make_trials(4, 3)} == {AGAIN}
    with pytest.raises(InputError, match="wants 12 requests about different facts"):
        make_trials(5, 2)


def make_results(folder: Path, seed: int = 0) -> list[TrialResult]:
    """Make results up: from the second round on, a line has lost its first edits."""
    found = []
    for trial in make_trials():
        own, lost = folder / trial.name, min(4, LOST[str(trial.labels["line"])])
        metrics = []
        for number in range(1, 4):
            wrong = set(range(lost)) if number > 1 else set()
            write_cases(
                own,
                number,
                [
                    {
                        "case_id": edit,
                        "post": {"rewrite_prompts_correct": [edit not in wrong]},
                    }
                    for edit in range(4 * number)
                ],
            )
            right = 100 * (1 - len(wrong) / (4 * number))
            metrics.append(
                RoundMetrics(
                    held_out_acc=90.0 - number,
                    capability={"perplexity": 50.0 + lost + seed},
                    all_edits={
                        "score": 80.0 - lost,
                        "rewrite_acc": right,
                        "rewrite_generated_exact": right - 10,
                        "neighborhood_success": 100.0 - 20 * lost,
                    },
                    budget=25.0 * number if "Lyap" in trial.name else None,
                )
            )
        before = RoundMetrics(held_out_acc=100.0, capability={"perplexity": 40.0})
        found.append(result_of(trial, metrics, own, seed, unedited=before))
    return found


def test_rows_begin_with_the_unedited_model_and_follow_all_edits(
    tmp_path: Path,
) -> None:
    """Their number, what is right, what it costs, and what is forgotten."""
    frame = STUDY.tabulate(make_results(tmp_path))
    name = MEMORIES["γ = λ"]
    one = frame[(frame["line"] == name) & (frame["requests"] == APART)]
    assert one["edits"].tolist() == [0, 4, 8, 12]
    assert one["perplexity"].tolist() == [40, 52, 52, 52]
    assert one["held_out_acc"].tolist() == [100, 89, 88, 87]
    assert one["rewrite_acc"].tolist()[1:] == [100, 75, 100 * (1 - 2 / 12)]
    assert one["forgotten"].tolist()[1:] == [0, 25, 100 * 2 / 12]
    assert one["age_when_lost"].tolist()[2:] == [4, 4]
    assert one["kept"].tolist()[1:] == [100, 75, 50]


def test_the_finding_is_in_numbers_of_the_run(tmp_path: Path) -> None:
    """Of both kinds; with several seeds a mean has a standard deviation."""
    results = make_results(tmp_path)
    said = STUDY.state(STUDY.tabulate(results))
    for kind in KINDS.values():
        assert f"After 12 {kind}, in 3 rounds, the per cent" in said
    assert f"{REFERENCE} 91.7 and 81.7;" in said
    assert f"perplexity of the text 50.0 ({NAMES[0]}) and 54.0" in said
    assert "(40.0 unedited)" in said
    assert f"{REFERENCE} 8.3 per cent, 4.0 edits later" in said
    assert "MEMIT scores 80.0 with γ = 0, 79.0 with γ = 1 and 78.0 with γ = λ." in said
    assert "+0.0 points" in said
    assert "Less than half is left by NAS (neighbours)" in said
    two = STUDY.state(STUDY.tabulate(results + make_results(tmp_path, seed=1)))
    assert f"perplexity of the text 50.5 ± 0.7 ({NAMES[0]})" in two


def test_figures_are_of_a_kind_of_requests_and_a_family_of_editors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with a table of its lines, and all points as numbers."""
    frame = STUDY.tabulate(make_results(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("sims.studies.lifelong.pages.draw_panels", lambda *_, **__: "")
        figures = STUDY.draw(frame)
    assert len(figures) == 2 * len(FAMILIES)
    assert {row for each in figures for row in each.table.index} == set(NAMES)
    assert list(figures[0].table) == list(TABLE)
    assert len(figures[0].numbers) == 4 * 5
    own = frame[(frame["requests"] == APART) & frame["line"].isin(of_family(ANSWERS))]
    drawn = draw_family(own, ANSWERS, KINDS[APART])
    assert drawn.picture.startswith("data:image/svg")
    assert drawn.table.index[0] == REFERENCE


def test_a_table_of_several_seeds_has_their_standard_deviations(
    tmp_path: Path,
) -> None:
    """Next to each mean, under its heading."""
    results = make_results(tmp_path) + make_results(tmp_path, seed=1)
    wide = spread_table(last_round(STUDY.tabulate(results)))
    heads = lay_out(wide).heads
    assert heads[heads.index("Perplexity") + 1] == "Perplexity, standard deviation"
    both_kinds = [50.0, 51.0, 50.0, 51.0]
    found = wide["perplexity.standard deviation"].iloc[0]
    assert found == pytest.approx(statistics.stdev(both_kinds))


@pytest.mark.training
def test_a_small_run_has_a_page_with_its_numbers(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tiny model, two editors: every metric is read where the run leaves it."""
    monkeypatch.setattr("sims.studies.lifelong.study.LINES", (LINES[1], LINES[9]))
    monkeypatch.setattr("sims.studies.lifelong.pages.draw_panels", lambda *_, **__: "")
    settings = (
        f"model.path={world}",
        f"requests.source={world / 'requests.json'}",
        "parties.count=2",
        "parties.requests-per-round=1",
        "run.rounds=2",
        "editing.schedule=frozen-uniform",
        "capability.tokens=50",
    )
    folder = run_study(Lifelong(), Order(None, settings), tmp_path / "out", execute)
    record = json.loads((folder / "study.json").read_text())
    rows = pd.DataFrame(record["rows"])
    assert set(rows["line"]) == {REFERENCE, "EMMET"}
    one = rows[rows["line"] == "EMMET"].drop_duplicates("edits")
    assert one["edits"].tolist() == [0, 2, 4]
    assert one[["perplexity", "held_out_acc"]].notna().all(axis=None)
    told = ["rewrite_acc", "rewrite_generated_exact", "neighborhood_success"]
    assert one.loc[one["edits"] > 0, told].notna().all(axis=None)
    assert record["definitions"]["perplexity"].endswith(".tokens-50")
    assert "the per cent of all edits that are right" in record["finding"]
    assert (folder / "figure_1.csv").read_text().count("EMMET") == 0
    assert (folder / "figure_2.csv").read_text().count("EMMET") == 3
