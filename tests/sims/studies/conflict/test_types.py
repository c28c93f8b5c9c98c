"""Each type of experiment edits and evaluates what its name says."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from editing.evaluation.cases import evaluate_requests
from editing.models.loading import load_editable_model
from editing.requests.edit_request import EditRequest
from sims.results.evaluation import edited
from sims.studies.conflict.pairs import NEXT, SAME, Contest
from sims.studies.conflict.types import (
    ALONE,
    COLUMNS,
    FORGETFUL,
    draw_types,
    make_types,
    read_types,
    state_types,
)
from sims.studies.study import TrialResult
from tests.sims.studies.contests import made_up_result, prepare_small, small_contest

A_ALONE, B_ALONE = [("A", 1, 0)], [("B", 1, 1)]
TOGETHER, IN_TURN = [("A", 1, 0), ("B", 1, 1)], [("A", 1, 0), ("B", 2, 1)]
MEANING = [
    ("whether-conflict", ALONE, A_ALONE, "B"),
    ("performance-a", ALONE, A_ALONE, "A"),
    ("single-b", ALONE, B_ALONE, "B"),
    ("performance-b", SAME, TOGETHER, "A"),
    ("performance-b", NEXT, IN_TURN, "A"),
    ("performance-b", FORGETFUL, IN_TURN, "A"),
    ("performance-a+b", SAME, TOGETHER, "B"),
    ("performance-a+b", NEXT, IN_TURN, "B"),
    ("performance-a+b", FORGETFUL, IN_TURN, "B"),
]
"""Who is edited, in which round, by which party, and evaluated by whose objects."""

Found = tuple[Contest, dict[tuple[str, str], tuple[TrialResult, dict[str, object]]]]


@pytest.fixture(scope="module")
def found(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Run all types once: the row and the run of each type and order."""
    config, run = prepare_small(tmp_path_factory.mktemp("types"), world)
    contest = small_contest(config)
    rows = {
        (str(row["type"]), str(row["order"])): (result, row)
        for result in run(make_types(contest))
        for row in read_types(result)
    }
    return contest, rows


def side_of(contest: Contest, side: str) -> tuple[EditRequest, ...]:
    """A's requests, or B's."""
    return contest.a if side == "A" else contest.b


def said_first(
    world: Path, delta: Path, requests: Sequence[EditRequest]
) -> tuple[float, float]:
    """Per cent of requests whose object is likelier than the true one, and likeliest.

    This is the definition of rewrite success and accuracy, on the model with the delta.
    """
    model = load_editable_model(str(world), "float64")
    with edited(model, delta):
        posts = [case["post"] for case in evaluate_requests(model, requests)]
    won = []
    for post in posts:
        assert isinstance(post, dict)
        (nll,), (correct,) = (
            post["rewrite_prompts_probs"],
            post["rewrite_prompts_correct"],
        )
        won.append((nll["target_new"] < nll["target_true"], correct))
    success, accuracy = (
        100 * sum(column) / len(won) for column in zip(*won, strict=True)
    )
    return success, accuracy


@pytest.mark.parametrize(("name", "order", "who"), [each[:3] for each in MEANING])
def test_a_type_edits_what_it_says(
    name: str, order: str, who: list[tuple[str, int, int]], found: Found
) -> None:
    """By these parties in these rounds, and nothing else, as the run has it."""
    contest, rows = found
    result, _ = rows[name, order]
    asked = [
        (own.subject, own.target_new, number, party)
        for side, number, party in who
        for own in side_of(contest, side)
    ]
    edits = []
    for path in result.folder.glob("case_*.json"):
        case = json.loads(path.read_text())
        rewrite, whose = case["requested_rewrite"], (case["round"], case["party"])
        assert case["residual_norm"] is not None
        edits.append((rewrite["subject"], rewrite["target_new"]["str"], *whose))
    assert sorted(edits) == sorted(asked)


@pytest.mark.parametrize(
    ("name", "order", "evaluated"), [(*each[:2], each[3]) for each in MEANING]
)
def test_a_type_is_evaluated_by_the_objects_it_says(
    name: str, order: str, evaluated: str, found: Found, world: Path
) -> None:
    """On the model after the last round."""
    contest, rows = found
    result, row = rows[name, order]
    delta = result.folder / "delta.safetensors"
    success, accuracy = said_first(world, delta, side_of(contest, evaluated))
    assert row["rewrite_success"] == pytest.approx(success)
    assert row["rewrite_acc"] == pytest.approx(accuracy)


def test_every_type_is_given_in_every_order_that_it_has(found: Found) -> None:
    """And B before any edit as well."""
    _, rows = found
    orders = {(name, order) for name, order, _, _ in MEANING}
    assert set(rows) == orders | {("unedited", ALONE)}


def test_memory_is_all_that_the_forgetful_order_goes_without(found: Found) -> None:
    """The rounds are the same."""
    contest, _ = found
    *_, usual, forgetful = make_types(contest)
    assert usual.rounds == forgetful.rounds
    assert set(forgetful.settings) - set(usual.settings) == {"prior.memory-weight=0"}


def make_frame(
    a_after: float, together: tuple[float, float], contest: Contest
) -> pd.DataFrame:
    """Write what types would come to if A and B were kept so well."""
    evaluated = {
        ("A", ALONE): (90.0, 10.0),
        ("B", ALONE): (20.0, 80.0),
        ("A and B", SAME): together,
        ("A and B", NEXT): (a_after, 70.0),
        ("A and B", FORGETFUL): (a_after, 60.0),
    }
    results = []
    for trial in make_types(contest):
        kept = evaluated[str(trial.labels["edited"]), str(trial.labels["order"])]
        means = {
            side: dict.fromkeys(COLUMNS, value)
            for side, value in zip("AB", kept, strict=True)
        }
        results.append(made_up_result(trial, means, Path()))
    return pd.DataFrame(
        [
            {"seed": 0, "part": "types", **row}
            for result in results
            for row in read_types(result)
        ]
    )


def test_the_finding_takes_its_numbers_from_the_run(found: Found) -> None:
    """Each type's own."""
    said = state_types(make_frame(5.0, (30.0, 15.0), found[0]))
    assert "90.0 (90.0) for A alone, evaluated by A" in said
    assert "80.0 (80.0) for B alone, evaluated by B" in said
    assert (
        "10.0 (10.0) for A alone, evaluated by B, where before any edit it is 1.0 (2.0)"
        in said
    )
    assert "With both, same round, A has 30.0 (30.0) and B 15.0 (15.0)" in said
    assert "With both, next round, A has 5.0 (5.0) and B 70.0 (70.0)" in said


@pytest.mark.parametrize(
    ("a_after", "together", "destroyed", "neither"),
    [(5.0, (30.0, 15.0), True, True), (80.0, (30.0, 60.0), False, False)],
)
def test_the_finding_says_whether_it_came_as_expected(
    a_after: float,
    together: tuple[float, float],
    destroyed: bool,
    neither: bool,
    found: Found,
) -> None:
    """For both expectations."""
    said = state_types(make_frame(a_after, together, found[0]))
    for true, beginning, end in (
        (destroyed, "destroys A", "the next round and the next round, γ = 0."),
        (neither, "end in neither", "the same round."),
    ):
        word = "held" if true else "did not hold"
        assert f"{beginning} was expected; this {word} for {end}" in said


def test_the_figure_has_a_row_for_each_type_and_order(found: Found) -> None:
    """In the order of the types."""
    figure = draw_types(make_frame(5.0, (30.0, 15.0), found[0]))
    rows = figure.table.to_dict(orient="index")
    assert set(rows) == {
        *((name, order) for name, order, _, _ in MEANING),
        ("unedited", ALONE),
    }
    assert rows["performance-a", ALONE]["Rewrite accuracy"] == 90
    assert len(figure.numbers) == len(figure.table)
