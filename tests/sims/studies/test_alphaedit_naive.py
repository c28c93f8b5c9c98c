"""Reading what a merge loses that takes an editor's deltas for MEMIT's."""

from collections.abc import Mapping
from math import sqrt
from pathlib import Path

import pandas as pd
import pytest
import torch

from editing.algebra.deltas import save_delta
from editing.base.errors import InputError
from server.config import read_scenario
from server.report.data import RoundMetrics
from sims.studies.alphaedit_naive import (
    ALL,
    APART,
    GLOBAL,
    NAIVE,
    POOLED,
    SHARED,
    AlphaEditNaive,
    compare,
    even_sizes,
)
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of

STUDY = AlphaEditNaive()
SMALL = ("run.rounds=2", "parties.count=3", "parties.requests-per-round=[4, 3, 1]")
SCORES = {GLOBAL: 90.0, POOLED: 90.0, NAIVE: 60.0}
FIRST, SECOND = "block.0.weight", "block.1.weight"


def make_trials(*settings: str, subjects: int = 12, relations: int = 3) -> list[Trial]:
    """Give the trials of a small study."""
    config = configure(STUDY, *SMALL, *settings)
    return STUDY.trials(make_pool(subjects, relations), config, seed=0)


def make_results(
    folder: Path, scores: Mapping[str, float] = SCORES, seed: int = 0
) -> list[TrialResult]:
    """Make results up, in which reading back adds 3 to each entry of the first weight.

    It has four entries, all 2 on one machine, and so has the second one.
    """
    results = []
    for trial in make_trials():
        line = str(trial.labels["line"])
        own = folder / str(seed) / trial.name
        own.mkdir(parents=True)
        delta = {name: torch.full((2, 2), 2.0) for name in (FIRST, SECOND)}
        delta[FIRST] += 3 * (line == NAIVE)
        save_delta(delta, own / "delta.safetensors", {})
        metrics = [RoundMetrics(score=scores[line] - seed) for _ in trial.rounds]
        results.append(result_of(trial, metrics, own, seed))
    return results


def test_the_same_requests_are_edited_in_every_way() -> None:
    """By one machine, two parties, all, and one a request; at once and in rounds."""
    trials = make_trials()
    for kind in (APART, SHARED):
        own = [trial for trial in trials if trial.labels["kind"] == kind]
        assert len({trial.requests for trial in own}) == 1
        ways = [
            tuple(map(trial.labels.get, ("line", "parties", "rounds"))) for trial in own
        ]
        assert ways == [
            (GLOBAL, 1, 1),
            (NAIVE, 2, 1),
            (POOLED, 3, 1),
            (NAIVE, 3, 1),
            (NAIVE, 8, 1),
            (GLOBAL, 1, 2),
            (POOLED, 3, 2),
            (NAIVE, 3, 2),
        ]
        assert [trial.sizes for trial in own[:4]] == [
            [[8]],
            [[4, 4]],
            *[[[3, 3, 2]]] * 2,
        ]
        assert own[-1].sizes == [[2, 1, 1], [2, 1, 1]]
    assert len({trial.name for trial in trials}) == len(trials)


def test_only_reading_back_merges_by_deltas_and_the_editor_is_the_scenario_s() -> None:
    """One machine and pooled statistics have the merge that is exact."""
    for trial in make_trials():
        config = read_scenario(STUDY.scenario, trial.overrides)
        assert (config.merge.name == "collabedit-deltas") == (
            trial.labels["line"] == NAIVE
        )
        assert config.editor.name == trial.labels["editor"] == "alphaedit"


def test_shared_subjects_have_requests_at_several_parties() -> None:
    """The others have one each."""
    shares = {}
    for trial in make_trials():
        if trial.labels["parties"] == 3 and trial.labels["rounds"] == 1:
            (parties,) = trial.rounds
            own = [{request.subject for request in party} for party in parties]
            shares[trial.labels["kind"]] = own[0] & (own[1] | own[2])
    assert shares[APART] == set()
    assert len(shares[SHARED]) == 2


def test_a_kind_that_the_pool_is_too_small_for_is_left_out() -> None:
    """If both are, the study is refused."""
    kinds = {trial.labels["kind"] for trial in make_trials(subjects=3)}
    assert kinds == {SHARED}
    with pytest.raises(InputError, match="wants 8 requests about as many subjects"):
        make_trials(subjects=1)


def test_updates_are_compared_by_weight_and_all_together() -> None:
    """By the norm of their difference."""
    one = {FIRST: torch.tensor([[3.0, 4.0]]), SECOND: torch.tensor([[0.0, 12.0]])}
    other = {FIRST: torch.tensor([[3.0, 0.0]]), SECOND: torch.tensor([[5.0, 12.0]])}
    found = list(compare(other, one))
    assert [row["weight"] for row in found] == [FIRST, SECOND, ALL]
    assert [row["distance"] for row in found] == pytest.approx(
        [4 / 5, 5 / 12, sqrt(41) / 13]
    )
    assert [row["length"] for row in found] == pytest.approx(
        [3 / 5, 13 / 12, sqrt(178) / 13]
    )


def test_parts_are_even_and_add_up() -> None:
    """The larger ones come first."""
    assert even_sizes(10, 4) == [3, 3, 2, 2]
    assert even_sizes(2, 3) == [1, 1, 0]


def test_the_finding_takes_its_numbers_from_the_run(tmp_path: Path) -> None:
    """What is lost, mean over seeds, and where that is a collapse."""
    results = make_results(tmp_path) + make_results(tmp_path, seed=1)
    said = STUDY.state(STUDY.tabulate(results))
    assert "With the editor alphaedit, the update of pooled statistics" in said
    assert "at most 0.0e+00 of its norm" in said
    # 3 · 2 entries' norm against √8 · 2; 58/8 of the squared length is √(116/32).
    assert "3 parties in 2 rounds: 1.1 times the norm away, 1.9 times as long" in said
    assert "score 59.5 where one machine has 89.5" in said
    assert "this held for 2 parties in 1 round with requests about a subject" in said
    assert "did not hold" not in said


def test_the_finding_says_where_there_is_no_collapse(tmp_path: Path) -> None:
    """For each way."""
    said = STUDY.state(STUDY.tabulate(make_results(tmp_path, SCORES | {NAIVE: 71.0})))
    assert "this did not hold for 2 parties in 1 round" in said
    assert "this held" not in said


def test_figures_show_each_kind_by_parties_and_by_rounds(tmp_path: Path) -> None:
    """With the distances of each weight among the numbers."""
    frame = STUDY.tabulate(make_results(tmp_path))
    titles = [figure.title for figure in STUDY.draw(frame)]
    assert [title.rpartition(", by ")[2] for title in titles] == [
        "parties",
        "rounds",
    ] * 2
    parties, rounds, *_ = STUDY.draw(frame)
    gaps = parties.table["‖Δ − Δ global‖ / ‖Δ global‖"]
    assert gaps[1, GLOBAL] == 0
    assert gaps[3, NAIVE] == pytest.approx(6 / sqrt(32))
    assert set(rounds.table.index.get_level_values("rounds")) == {1, 2}
    own = parties.numbers
    first = own[(own["weight"] == FIRST) & (own["line"] == NAIVE)]
    assert list(first["distance"]) == pytest.approx([1.5] * 3)


def test_one_round_is_a_study_of_parties_alone(tmp_path: Path) -> None:
    """There is nothing to compare by rounds."""
    trials = make_trials("run.rounds=1")
    assert {trial.labels["rounds"] for trial in trials} == {1}
    frame = STUDY.tabulate(make_results(tmp_path))
    once = pd.DataFrame(frame[frame["rounds"] == 1])
    assert [figure.title.rpartition(" ")[2] for figure in STUDY.draw(once)] == [
        "parties",
        "parties",
    ]
