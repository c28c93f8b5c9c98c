"""Reading what later rounds leave of the first."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from editing.base.errors import InputError
from server.config import read_scenario
from server.report.data import RoundMetrics
from sims.studies.noise import OTHER, SAME
from sims.studies.rounds.forgetting import LAMBDA, ONE, UNEDITED, ZERO, Forgetting
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of

STUDY = Forgetting()
SMALL = (
    "run.rounds=3",
    "parties.requests-per-round=[[2, 1], [1, 0]]",
    "parties.allow-empty=true",
)
LOST = {ZERO: 60.0, ONE: 10.0, LAMBDA: 0.0}
"""Points of rewrite success that made-up targets lose in two later rounds."""


def make_trials(*settings: str, relations: int = 3) -> list[Trial]:
    """Give the trials of a small study."""
    config = configure(STUDY, *SMALL, *settings)
    return STUDY.trials(make_pool(12, relations), config, seed=0)


def make_results(
    folder: Path, lost: Mapping[str, float] = LOST, seed: int = 0
) -> list[TrialResult]:
    """Make results up, with targets that are lost half in each later round."""
    return [
        result_of(
            trial,
            [
                RoundMetrics(
                    rewrite_success=90.0 - seed,
                    rewrite_acc=80.0,
                    by_round=(
                        RoundMetrics(
                            rewrite_success=100 - place * loss / 2,
                            rewrite_acc=100 - place * loss / 4,
                            paraphrase_success=100.0,
                            neighborhood_success=90 - place * loss / 10,
                        ),
                    ),
                )
                for place in range(3)
            ],
            folder,
            seed,
            unedited=RoundMetrics(rewrite_success=3.0),
        )
        for trial in make_trials()
        if (loss := lost[str(trial.labels["gamma"])]) is not None
    ]


def test_trials_differ_in_the_memory_weight_alone() -> None:
    """The last weight is the run's own prior weight."""
    trials = [trial for trial in make_trials() if trial.labels["noise"] == SAME]
    assert len({trial.rounds for trial in trials}) == 1
    weights = {
        str(trial.labels["gamma"]): read_scenario(
            STUDY.scenario, trial.overrides
        ).prior.memory_weight
        for trial in trials
    }
    assert weights == {ZERO: 0, ONE: 1, LAMBDA: "lambda"}


def test_parties_have_the_sizes_of_the_scenario() -> None:
    """Also where it lists them by round."""
    assert make_trials()[0].sizes == [[2, 1], [1, 0], [1, 0]]


def test_the_main_noise_has_all_weights_and_the_contrast_two() -> None:
    """With one fact a subject, the other subjects are all there is."""
    assert [(t.labels["noise"], t.labels["gamma"]) for t in make_trials()] == [
        (SAME, ZERO),
        (SAME, ONE),
        (SAME, LAMBDA),
        (OTHER, ZERO),
        (OTHER, ONE),
    ]
    assert [t.labels["gamma"] for t in make_trials(relations=1)] == [ZERO, ONE, LAMBDA]
    assert {t.labels["noise"] for t in make_trials(relations=1)} == {OTHER}


def test_targets_keep_the_prompts_that_evaluate_them_and_later_requests_do_not() -> (
    None
):
    """Unless paraphrases are edited as well."""
    first, *later = make_trials()[0].rounds
    assert all(request.neighborhood_prompts for own in first for request in own)
    asked = [request for parties in later for own in parties for request in own]
    assert not any(r.neighborhood_prompts or r.paraphrase_prompts for r in asked)
    phrased = make_trials("requests.phrasings=1")[0].rounds[1]
    assert all(request.paraphrase_prompts for own in phrased for request in own)


def test_one_round_forgets_nothing() -> None:
    """And is refused."""
    with pytest.raises(InputError, match=r"`run\.rounds` is 1"):
        STUDY.trials(make_pool(12), configure(STUDY, "run.rounds=1"), 0)


def test_rows_count_later_requests_and_read_the_first_round_after_each(
    tmp_path: Path,
) -> None:
    """The unedited model is the same at every count, and stands there once."""
    frame = STUDY.tabulate(make_results(tmp_path))
    lines = frame[frame["noise"] == SAME].groupby("gamma")
    counts = lines["edits"].apply(list).to_dict()
    assert set(counts) == {ZERO, ONE, LAMBDA, UNEDITED}
    assert all(each == [0, 1, 2] for each in counts.values())
    success = lines["rewrite_success"].apply(list)
    assert success[ZERO] == [100, 70, 40]
    assert success[UNEDITED] == [3, 3, 3]
    later = lines["later_success"].apply(list)[ONE]
    assert pd.isna(later[0])
    assert later[1:] == [90, 90]


def test_the_finding_takes_its_numbers_from_the_run(tmp_path: Path) -> None:
    """The gain, by seed, and what became of later requests."""
    results = make_results(tmp_path) + make_results(
        tmp_path, LOST | {ONE: 30.0}, seed=1
    )
    said = STUDY.state(STUDY.tabulate(results))
    assert "After 2 later requests about the same subjects, 80.0 per cent" in said
    assert "+40.0 (+50.0, +30.0 for seeds 0, 1) in rewrite success" in said
    assert "held for success, accuracy and the neighbourhood." in said
    assert "89.5 (89.5) with γ = 0" in said
    assert "With γ = λ the difference to γ = 0 is +60.0" in said


def test_the_finding_says_when_the_expected_did_not_come_out(tmp_path: Path) -> None:
    """For each of its parts."""
    worse = make_results(tmp_path, LOST | {ONE: 80.0})
    said = STUDY.state(STUDY.tabulate(worse))
    assert "did not hold for success, accuracy and the neighbourhood." in said
    slight = make_results(tmp_path, LOST | {ONE: 45.0})
    said = STUDY.state(STUDY.tabulate(slight))
    assert (
        "held for success and the neighbourhood and did not hold for accuracy" in said
    )


def test_figures_show_the_last_round_of_each_line(tmp_path: Path) -> None:
    """A figure for each kind of noise, and one for the price."""
    figures = STUDY.draw(STUDY.tabulate(make_results(tmp_path)))
    same, other, price = figures
    success = same.table["Rewrite success (ES) of the first round"].to_dict()
    assert success == {ZERO: 40, ONE: 90, LAMBDA: 100, UNEDITED: 3}
    assert list(other.table.index) == [ZERO, ONE, UNEDITED]
    assert list(price.table.index) == [ZERO, ONE, LAMBDA]
    assert set(same.numbers["noise"]) == {SAME}


def test_what_a_pool_does_not_ask_for_is_unknown_and_not_evaluated(
    tmp_path: Path,
) -> None:
    """Rather than counted as lost."""
    silent = RoundMetrics(rewrite_acc=50.0, by_round=(RoundMetrics(rewrite_acc=50.0),))
    results = [result_of(trial, [silent] * 3, tmp_path) for trial in make_trials()]
    frame = STUDY.tabulate(results)
    said = STUDY.state(frame)
    assert "unknown in neighbourhood success" in said
    assert said.count("did not hold for accuracy.") == 1
    assert "nan" not in said
    assert len(STUDY.draw(frame)) == 3
