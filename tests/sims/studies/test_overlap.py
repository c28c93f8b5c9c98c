"""Reading what repetition leaves to write, and does to the others."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.report.data import RoundMetrics
from sims.studies.overlap import (
    GUARDS,
    IN_TURN,
    TOGETHER,
    Overlap,
    left_to_write,
    split_cases,
)
from sims.studies.study import Trial, TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of, write_cases

STUDY = Overlap(threshold=0.25)
SMALL = ("parties.count=5", "parties.requests-per-round=2", "run.rounds=3")


def make_trials(seed: int = 0) -> list[Trial]:
    """Give the trials of a small study."""
    return STUDY.trials(make_pool(40), configure(STUDY, *SMALL), seed)


def of(part: str) -> list[Trial]:
    """Choose the trials of one way to repeat."""
    return [trial for trial in make_trials() if trial.labels["part"] == part]


def make_case(number: int, asked: int, norm: float, *, won: bool) -> dict[str, object]:
    """Make the case of a request that was or was not written."""
    probs = {"target_new": 0.1 if won else 3.0, "target_true": 1.0}
    post: dict[str, object] = {"paraphrase_prompts_same_direction": []}
    for kind in ("rewrite", "paraphrase", "neighborhood"):
        post[f"{kind}_prompts_probs"] = [probs] if kind == "rewrite" else []
        post[f"{kind}_prompts_correct"] = [won] if kind == "rewrite" else []
    return {"case_id": number, "round": asked, "residual_norm": norm, "post": post}


def make_result(trial: Trial, folder: Path, *, known: int = 0) -> TrialResult:
    """Make a run up: repeated ones have norms 8, 4, 2, … and are written, others 1."""
    asked = [
        number
        for number, parties in enumerate(trial.sizes, start=1)
        for _ in range(sum(parties))
    ]
    first = trial.requests[0].subject
    rounds = range(1, len(trial.rounds) + 1)
    for number in rounds:
        cases = [
            make_case(
                request.case_id,
                when,
                16.0 / 2**when if request.subject == first else 1.0,
                won=request.subject == first,
            )
            for request, when in zip(trial.requests, asked, strict=True)
            if when <= number
        ]
        write_cases(folder / trial.name, number, cases)
    metrics = [RoundMetrics(known=known, left_out=place) for place in rounds]
    return result_of(trial, metrics, folder / trial.name)


def test_copies_are_the_only_request_made_twice() -> None:
    """Other requests have subjects of their own, the same whatever the copies."""
    others = set()
    for trial in of(TOGETHER):
        repeated = trial.requests[0].subject
        subjects = [request.subject for request in trial.requests]
        rest = [subject for subject in subjects if subject != repeated]
        assert len(set(rest)) == len(rest) == 10
        assert subjects.count(repeated) == float(trial.labels["repeated"]) + 1
        others.add(tuple(rest))
    assert len(others) == 1


def test_no_party_makes_the_request_twice_in_a_round() -> None:
    """And as many make it as the trial says; one makes it again in the next round."""
    for trial in of(TOGETHER):
        first, second = trial.rounds
        repeated = trial.requests[0].subject
        made = [sum(r.subject == repeated for r in own) for own in first]
        assert sorted(set(made)) in ([0, 1], [1])
        assert sum(made) == trial.labels["repeated"]
        assert [r.subject for own in second for r in own] == [repeated]
    assert {trial.labels["repeated"] for trial in of(TOGETHER)} == {1, 2, 5}


def test_in_turn_one_party_makes_the_request_in_every_round() -> None:
    """Together with all other requests of the round."""
    for trial in of(IN_TURN):
        repeated = trial.requests[0].subject
        for own, *rest in trial.rounds:
            assert [request.subject for request in own] == [repeated]
            others = [request.subject for party in rest for request in party]
            assert len(others) == 10
            assert repeated not in others


def test_guarded_trials_differ_in_their_guard_alone() -> None:
    """By the threshold that the study was given."""
    for part, setting in (
        (TOGETHER, "parties.deduplicate=true"),
        (IN_TURN, "parties.skip-known=0.25"),
    ):
        plain, guarded = of(part)[-2:]
        assert plain.rounds == guarded.rounds
        assert (plain.settings, guarded.settings) == ((), (setting,))
        assert (plain.labels["guard"], guarded.labels["guard"]) == GUARDS[part]


@pytest.mark.parametrize(
    "setting", ["parties.skip-known=0.1", "parties.deduplicate=true"]
)
def test_a_scenario_that_guards_all_trials_is_refused(setting: str) -> None:
    """There would be nothing to compare."""
    config = configure(STUDY, *SMALL, setting)
    with pytest.raises(InputError, match=r"sets `parties\.skip-known`"):
        STUDY.trials(make_pool(40), config, 0)


def test_a_pool_too_small_is_refused() -> None:
    """State what it has."""
    with pytest.raises(InputError, match=r"wants 31 requests .* has 30 subjects"):
        STUDY.trials(make_pool(30), configure(STUDY, *SMALL), 0)


def test_cases_are_split_by_what_was_asked_for(tmp_path: Path) -> None:
    """Whoever asked, and under whatever number."""
    trial = of(TOGETHER)[-1]
    result = make_result(trial, tmp_path)
    copies, others = split_cases(result, 1)
    assert len(copies) == trial.labels["repeated"]
    assert len(others) == 10
    assert len(split_cases(result, 2)[0]) == len(copies) + 1


def test_what_is_left_to_write_is_of_the_round_asked_about() -> None:
    """A request whose target was not computed counts for nothing."""
    cases = [make_case(place, place, 2.0 * place, won=True) for place in (1, 2, 2)]
    assert left_to_write(cases, 2) == 4
    assert left_to_write(cases, 1) == 2
    assert left_to_write(cases, 3) is None
    assert left_to_write([cases[0] | {"residual_norm": None}], 1) is None


def test_rows_count_how_often_the_request_had_been_made(tmp_path: Path) -> None:
    """Residuals before the next time, and the others' metrics after the last."""
    results = [
        make_result(trial, tmp_path) for trial in (of(TOGETHER)[-2], of(IN_TURN)[0])
    ]
    frame = STUDY.tabulate(results)
    left = frame[frame["repeated_norm"].notna()].set_index(["part", "times"])
    assert left["repeated_norm"].to_dict() == {
        (TOGETHER, 0): 8,
        (TOGETHER, 5): 4,
        (IN_TURN, 0): 8,
        (IN_TURN, 1): 4,
        (IN_TURN, 2): 2,
    }
    evaluated = frame[frame["rewrite_success"].notna()]
    assert list(evaluated["times"]) == [5, 1, 2, 3]
    assert set(evaluated["rewrite_success"]) == {0}
    in_turn = left.loc[IN_TURN]
    assert set(in_turn["others_norm"]) == {1}


def test_the_finding_takes_its_numbers_from_the_run(tmp_path: Path) -> None:
    """What is left, and what the guards left out."""
    results = [make_result(trial, tmp_path, known=2) for trial in make_trials()]
    said = STUDY.state(STUDY.tabulate(results))
    assert "Made by 1, 2 and 5 parties in one round" in said
    assert "‖z − h‖ = 4.00, 4.00 and 4.00 left to write if every copy counts" in said
    assert "it had 8.00 before any edit" in said
    assert "‖z − h‖ = 8.00, 4.00 and 2.00 before each round's edit" in said
    assert "have 1.00, 1.00 and 1.00" in said
    assert "`skip-known = 0.25` left out 6 requests" in said
    assert "repeated 2 times" in said
    assert "rewrite success (ES) of all others is 0.0" in said


def test_figures_show_both_ways_to_repeat(tmp_path: Path) -> None:
    """A residual and the others' scores each."""
    results = [make_result(trial, tmp_path) for trial in make_trials()]
    figures = STUDY.draw(STUDY.tabulate(results))
    assert len(figures) == 4
    names = [set(figure.table.index.get_level_values("guard")) for figure in figures]
    assert names == [
        set(GUARDS[part]) for part in (TOGETHER, TOGETHER, IN_TURN, IN_TURN)
    ]
