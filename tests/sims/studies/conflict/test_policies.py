"""Each policy lets stay what it says, and the finding says what became of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from sims.studies.conflict.pairs import NEXT, ORDERS, SAME
from sims.studies.conflict.policies import (
    draw_policies,
    make_policies,
    read_policies,
    state_policies,
)
from sims.studies.study import Trial
from strategies.conflicts.policies import POLICIES
from tests.sims.studies.contests import (
    FACTS,
    made_up_result,
    prepare_small,
    small_contest,
)

STAYS = {
    ("none", SAME): {0, 1, 2},
    ("first", SAME): {0},
    ("last", SAME): {1, 2},
    ("priority", SAME): {0},
    ("majority", SAME): {1, 2},
    ("drop", SAME): set(),
    ("none", NEXT): {0, 1, 2},
    ("first", NEXT): {0},
    ("last", NEXT): {0, 1, 2},
    ("priority", NEXT): {0},
    ("majority", NEXT): {0, 1, 2},
    ("drop", NEXT): {0},
}
"""Which parties' requests are edited: party 0 asks for A, and then, or at once, 1 and 2
for B. What an earlier round edited is not taken back."""

SAID = {"": "neither", "A": "A's object", "B": "B's object"}


@pytest.fixture(scope="module")
def trials(world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """Make the trials of all policies."""
    config, _ = prepare_small(tmp_path_factory.mktemp("policies"), world)
    return make_policies(small_contest(config), config)


def test_every_policy_is_tried_in_both_orders(trials: list[Trial]) -> None:
    """On the same requests."""
    tried = [(trial.labels["policy"], trial.labels["order"]) for trial in trials]
    assert sorted(tried) == sorted(STAYS)
    for order in ORDERS:
        rounds = {each.rounds for each in trials if each.labels["order"] == order}
        assert len(rounds) == 1
    asked = [sorted(map(str, trial.rounds[0][0])) for trial in trials]
    assert all(each == asked[0] for each in asked)


@pytest.mark.parametrize(("policy", "order"), STAYS)
def test_a_run_edits_what_the_policy_lets_stay(
    policy: str, order: str, world: Path, tmp_path: Path
) -> None:
    """And every request that nobody contradicts; the row counts what was left out."""
    config, run = prepare_small(tmp_path, world)
    contest = small_contest(config)
    wanted = {"policy": policy, "order": order}
    (trial,) = (
        each
        for each in make_policies(contest, config)
        if wanted.items() <= each.labels.items()
    )
    (result,) = run([trial])
    contested = {request.subject for request in contest.a}
    edited = set()
    for path in result.folder.glob("case_*.json"):
        case = json.loads(path.read_text())
        disputed = case["requested_rewrite"]["subject"] in contested
        assert disputed or case["residual_norm"] is not None
        if disputed and case["residual_norm"] is not None:
            edited.add(case["party"])
    assert edited == STAYS[policy, order]
    (row,) = read_policies(result)
    assert row["edited"] == FACTS * len(edited)
    assert row["left_out"] == FACTS * (3 - len(edited))
    assert row["found"] == FACTS


def test_the_winner_is_whoever_was_edited_last(trials: list[Trial]) -> None:
    """Without a policy there is none."""
    for trial in trials:
        key = str(trial.labels["policy"]), str(trial.labels["order"])
        stays = STAYS[key]
        last = "B" if {1, 2} & stays else "A" if stays else ""
        assert trial.labels["winner"] == ("" if key[0] == "none" else last)


@pytest.mark.parametrize(("ranking", "winner"), [([2], "B"), ([0, 1], "A")])
def test_a_ranking_of_the_scenario_is_used(
    ranking: list[int], winner: str, world: Path, tmp_path: Path
) -> None:
    """In the place of the first party."""
    config, _ = prepare_small(tmp_path, world)
    parties = config.parties.model_copy(update={"priority": tuple(ranking)})
    config = config.model_copy(update={"parties": parties})
    for trial in make_policies(small_contest(config), config):
        assert f"parties.priority={ranking}" in trial.settings
        if trial.labels["policy"] == "priority":
            assert trial.labels["winner"] == winner


def make_frame(trials: list[Trial]) -> pd.DataFrame:
    """Write a row a policy: winners are said for 80 per cent, losers for 15."""
    rows = []
    for trial in trials:
        winner = trial.labels["winner"]
        evaluated = {
            side: {
                "rewrite_acc": 80.0 if side == winner else 15.0,
                "rewrite_success": 90.0 if side == winner else 20.0,
                "neighborhood_success": 60.0 if side == "A" else 70.0,
            }
            for side in "AB"
        }
        evaluated["others"] = {"rewrite_success": 99.0}
        result = made_up_result(trial, evaluated, Path(), left_out=2, conflicts=3)
        rows += [
            {"seed": 0, "part": "policies", **row} for row in read_policies(result)
        ]
    return pd.DataFrame(rows)


def test_a_row_holds_both_sides_and_what_is_left(trials: list[Trial]) -> None:
    """The share of neither is what A and B leave."""
    frame = make_frame(trials).set_index(["policy", "order"])
    rows = frame.to_dict(orient="index")
    row = rows["first", SAME]
    assert (row["a_acc"], row["b_acc"], row["neither"]) == (80, 15, 5)
    assert (row["a_success"], row["b_success"]) == (90, 20)
    assert (row["neighbourhood"], row["others_success"]) == (65, 99)
    assert (row["left_out"], row["edited"], row["found"]) == (2, 3 * FACTS - 2, 3)
    assert rows["none", NEXT]["neither"] == 70


def test_the_finding_takes_its_numbers_from_the_run(trials: list[Trial]) -> None:
    """The damage without a policy, and the winner with one."""
    said = state_policies(make_frame(trials))
    for trial in trials:
        policy, winner = str(trial.labels["policy"]), str(trial.labels["winner"])
        if policy != "none":
            share = 80 if winner else 70
            assert f"{share}.0 {SAID[winner]} (`{policy}`)" in said
    assert said.count("15.0 per cent of the facts in conflict say A's object") == 2
    assert said.count("15.0 B's and 70.0 neither") == 2


def test_the_figure_has_a_row_for_each_policy_and_order(trials: list[Trial]) -> None:
    """With the winner in its name."""
    figure = draw_policies(make_frame(trials))
    assert len(figure.table) == len(POLICIES) * len(ORDERS) == len(figure.numbers)
    rows = figure.table.to_dict(orient="index")
    assert rows["last", SAME, "B wins"]["B's accuracy"] == 80
    assert rows["drop", SAME, "no winner"]["A's accuracy"] == 15
