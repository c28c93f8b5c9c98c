"""What tokens find is counted from the run, kind by kind."""

import json
from pathlib import Path

import pandas as pd
import pytest

from editing.requests.normalise import normalise
from server.config import RunConfig
from sims.studies.conflict.detection import (
    ALL,
    CONFLICT,
    DUPLICATE,
    KINDS,
    OTHER_FACT,
    OTHER_WORDS,
    OTHER_WRITING,
    PARAPHRASED,
    SAME_PROMPT,
    UNRELATED,
    draw_detection,
    find_left_out,
    make_detection,
    plant,
    plant_all,
    rate,
    rate_writings,
    read_detection,
    state_detection,
)
from sims.studies.conflict.pairs import NEXT, SAME, Contest, draw_contest
from sims.studies.conflict.study import Conflict
from sims.studies.pools import fact_of
from strategies.conflicts.blind_tokens import blind
from tests.sims.studies.contests import (
    made_up_result,
    make_small_pool,
    prepare_small,
    small_contest,
)
from tests.sims.studies.made_up import configure, make_pool

KEY = bytes(range(32))
POOL = make_pool(60)
SEEN = {
    (SAME_PROMPT, CONFLICT): CONFLICT,
    (SAME_PROMPT, DUPLICATE): DUPLICATE,
    (OTHER_WRITING, CONFLICT): CONFLICT,
    (OTHER_WRITING, DUPLICATE): DUPLICATE,
    (PARAPHRASED, CONFLICT): UNRELATED,
    (PARAPHRASED, DUPLICATE): UNRELATED,
    (OTHER_WORDS, DUPLICATE): CONFLICT,
    (OTHER_FACT, UNRELATED): UNRELATED,
}
"""What each kind looks like to whoever sees digests alone."""


def small() -> RunConfig:
    """Read the study's scenario for four facts."""
    return configure(Conflict(), "parties.requests-per-round=4")


@pytest.fixture(scope="module")
def contest() -> Contest:
    """Draw pairs, most of which are spare."""
    return draw_contest(POOL, small(), 0)


@pytest.mark.parametrize(("writing", "claim"), KINDS)
def test_a_kind_looks_to_digests_as_it_was_planted_for(
    writing: str, claim: str, contest: Contest
) -> None:
    """Conflicts, duplicates, or nothing at all."""
    for pair in contest.pairs:
        met = plant(pair, writing, claim, POOL)
        assert met is not None
        own, other = blind(pair.right, KEY), blind(met, KEY)
        seen = UNRELATED
        if own.fact == other.fact:
            seen = DUPLICATE if own.target == other.target else CONFLICT
        assert seen == SEEN[writing, claim]


@pytest.mark.parametrize(("writing", "claim"), KINDS)
def test_a_kind_is_what_it_truly_is(writing: str, claim: str, contest: Contest) -> None:
    """About the right request's fact unless it is another one, asking what it says."""
    for pair in contest.pairs:
        met = plant(pair, writing, claim, POOL)
        assert met is not None
        assert normalise(met.subject) == normalise(pair.right.subject)
        if claim == UNRELATED:
            assert fact_of(met) != fact_of(pair.right)
            continue
        assert met.relation_id == pair.right.relation_id
        side = pair.conflicting if claim == CONFLICT else pair.right
        article = "the " if writing == OTHER_WORDS else ""
        assert normalise(met.target_new) == normalise(article + side.target_new)


def test_a_pair_without_a_second_wording_or_fact_is_passed_over(
    contest: Contest,
) -> None:
    """The other kinds stay."""
    (pair, *_) = contest.pairs
    mute = type(pair)(
        *(
            side.model_copy(update={"paraphrase_prompts": ()})
            for side in (pair.right, pair.conflicting)
        )
    )
    kinds = [kind for _, _, kind in plant_all([mute] * len(KINDS), [pair.right])]
    assert kinds == [kind for kind in KINDS if kind[0] not in {PARAPHRASED, OTHER_FACT}]


def test_no_pair_is_planted_twice(contest: Contest) -> None:
    """A fact meets one other request alone, and each trial plants the same."""
    trials = make_detection(contest, POOL, small())
    pairs = contest.pairs + contest.spare
    planted = list(plant_all(pairs, POOL))
    subjects = [pair.right.subject for pair, _, _ in planted]
    assert len(subjects) == len(set(subjects)) == len(pairs)
    for trial in trials:
        assert [trial.labels["/".join(kind)] for kind in KINDS] == [
            [kind for _, _, kind in planted].count(each) for each in KINDS
        ]


def test_a_run_finds_what_digests_show(world: Path, tmp_path: Path) -> None:
    """Each kind at once, in both orders, and as many as the server reports."""
    config, run = prepare_small(tmp_path, world)
    pool = make_small_pool()
    results = run(make_detection(small_contest(config), pool, config))
    rows = [row for result in results for row in read_detection(result)]
    assert {(row["sought"], row["order"]) for row in rows} == {
        (CONFLICT, SAME),
        (CONFLICT, NEXT),
        (DUPLICATE, SAME),
    }
    for row in rows:
        kind = str(row["writing"]), str(row["claim"])
        assert row["planted"] in {3, 4}  # 25 pairs of eight kinds
        assert row["found"] == (row["planted"] if SEEN[kind] == row["sought"] else 0)
    for result in results:
        found = [row for row in rows if row["sought"] == result.trial.labels["sought"]]
        own = [row for row in found if row["order"] == result.trial.labels["order"]]
        assert {row["reported"] for row in own} == {
            sum(int(str(r["found"])) for r in own)
        }


def test_left_out_is_what_has_no_residual(contest: Contest, tmp_path: Path) -> None:
    """Whatever its number."""
    for number, norm in ((0, 1.5), (1, None), (10, None)):
        case = {"case_id": number, "residual_norm": norm}
        (tmp_path / f"case_{number}.json").write_text(json.dumps(case))
    trial = make_detection(contest, POOL, small())[0]
    assert find_left_out(made_up_result(trial, {}, tmp_path)) == {1, 10}


def make_frame() -> pd.DataFrame:
    """Count for two seeds: of ten of each kind, four of what is sought are found.

    In the first seed one duplicate of each writing is taken for a conflict as well.
    """
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "part": "detection",
                "sought": sought,
                "order": order,
                "writing": writing,
                "claim": claim,
                "planted": 10,
                "found": (
                    4
                    if claim == sought
                    else int(seed == 0 and sought == CONFLICT and claim == DUPLICATE)
                ),
                "reported": 0,
            }
            for seed in (0, 1)
            for sought, order in ((CONFLICT, SAME), (CONFLICT, NEXT), (DUPLICATE, SAME))
            for writing, claim in KINDS
        ]
    )


def test_recall_is_of_what_was_planted_and_precision_of_what_was_found() -> None:
    """None where there is nothing to divide by."""
    frame = make_frame()
    first = frame[frame["seed"] == 0]
    same = first[first["writing"] == SAME_PROMPT]
    assert rate(same, CONFLICT) == {
        "conflict recall": 100 * 4 / 10,
        "conflict precision": 100 * 4 / 5,
    }
    other = frame[(frame["seed"] == 1) & (frame["writing"] == OTHER_FACT)]
    assert set(rate(other, CONFLICT).values()) == {None}
    whole = rate_writings(frame).set_index(["seed", "writing"])
    assert whole.loc[(0, ALL), "conflict precision"] == pytest.approx(100 * 12 / 16)
    assert whole.loc[(1, ALL), "conflict precision"] == 100
    assert whole.loc[(1, ALL), "duplicate recall"] == pytest.approx(100 * 16 / 40)


def test_the_finding_says_what_was_found_and_what_cannot_be_seen() -> None:
    """In numbers of the run."""
    said = state_detection(make_frame())
    assert "Recall and precision for conflicts are 40.0 and 85.7 (all)" in said
    assert "40.0 and 88.9 (same prompt)" in said
    assert "Recall and precision for duplicates are 40.0 and 100.0 (all)" in said
    assert "whose prompt is paraphrased, 40.0 per cent are found" in said
    assert (
        "Of 200 pairs in both orders that are no conflict, 8 were taken for one" in said
    )
    assert f"2 under “{OTHER_WORDS}”" in said


def test_the_table_counts_each_kind_by_trial() -> None:
    """What was planted once for all trials, and what each of them found."""
    figure = draw_detection(make_frame())
    rows = figure.table.to_dict(orient="index")
    assert list(rows[SAME_PROMPT, DUPLICATE].values()) == [20, 1, 1, 8]
    assert list(rows[OTHER_FACT, UNRELATED].values()) == [20, 0, 0, 0]
    assert len(figure.numbers) == len(make_frame())
