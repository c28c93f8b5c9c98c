"""Topics in turn, or all topics in every round."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from server.report.data import RoundMetrics
from sims.studies.pools import fact_of
from sims.studies.rounds.order import MIXED, TURN, Order, draw_topics
from sims.studies.study import TrialResult
from tests.sims.studies.made_up import configure, make_pool, result_of, write_cases

STUDY = Order()
SMALL = ("parties.count=3", "parties.requests-per-round=4")


def test_each_party_has_a_topic_and_no_subject_has_two() -> None:
    """A pool that cannot give that is refused."""
    topics = draw_topics(make_pool(12), [4, 4, 4], 0)
    relations = [{fact_of(request).relation for request in own} for own in topics]
    assert all(len(each) == 1 for each in relations)
    assert len(set.union(*relations)) == 3
    assert len({request.subject for own in topics for request in own}) == 12
    with pytest.raises(InputError, match="wants 3 topics"):
        draw_topics(make_pool(11), [4, 4, 4], 0)
    with pytest.raises(InputError, match="has 2 relations"):
        draw_topics(make_pool(12, 2), [4, 4, 4], 0)


def test_both_orders_edit_the_same_requests_of_each_party() -> None:
    """In turn one party edits in a round; mixed, all edit equal parts of theirs."""
    trials = STUDY.trials(make_pool(12), configure(STUDY, *SMALL), 0)
    by_line = {trial.labels["merge"]: trial.rounds for trial in trials}
    turn, mixed = (by_line[f"simple-average, {order}"] for order in (TURN, MIXED))
    assert [[len(own) for own in parties] for parties in turn] == [
        [4, 0, 0],
        [0, 4, 0],
        [0, 0, 4],
    ]
    assert [[len(own) for own in parties] for parties in mixed] == [
        [2, 2, 2],
        [1, 1, 1],
        [1, 1, 1],
    ]
    for party in range(3):
        one, other = (
            {request.case_id for parties in rounds for request in parties[party]}
            for rounds in (turn, mixed)
        )
        assert one == other


def make_results(folder: Path) -> list[TrialResult]:
    """Make cases up: in turn, one of two prompts of the first round is lost."""
    found = []
    for trial in STUDY.trials(make_pool(12), configure(STUDY, *SMALL), 0):
        own = folder / trial.name
        for number in range(1, 1 + len(trial.rounds)):
            lost = number > 1 and str(trial.labels["merge"]).endswith(TURN)
            write_cases(own, number, [case_of(right=True), case_of(right=not lost)])
        found.append(result_of(trial, [RoundMetrics()], own))
    return found


def case_of(*, right: bool) -> dict[str, object]:
    """Make a case up whose prompts all say the new object, or none does."""
    good, bad = {"target_new": 1.0, "target_true": 2.0}, {"target_new": 2.0}
    probs = good if right else bad | {"target_true": 1.0}
    near = {"target_new": 2.0, "target_true": 1.0}
    return {
        "post": {
            "rewrite_prompts_probs": [probs],
            "rewrite_prompts_correct": [right],
            "paraphrase_prompts_probs": [probs],
            "paraphrase_prompts_correct": [right],
            "neighborhood_prompts_probs": [near],
            "neighborhood_prompts_correct": [True],
        }
    }


def test_rows_are_over_all_requests_so_far(tmp_path: Path) -> None:
    """The cases of every round up to then; the finding is of the last."""
    frame = STUDY.tabulate(make_results(tmp_path))
    turn = frame[frame["merge"] == f"collabedit, {TURN}"]
    assert turn["edits"].tolist() == [4, 8, 12]
    assert turn["rewrite_success"].tolist() == [100, 50, 50]
    mixed = frame[frame["merge"] == f"collabedit, {MIXED}"]
    assert mixed["rewrite_success"].tolist() == [100, 100, 100]
    said = STUDY.state(frame)
    assert said.startswith("After 12 edits, with collabedit the score of all of them")
    assert "a difference of -40.0 (seed 0 alone)" in said
