"""The search sees no reported request, edits as the engine does, and chooses."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from editing.algebra.deltas import applied
from editing.covariance.covariance import compute_covariance
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.hyperparameters.config import Hyperparameters, Plan
from editing.hyperparameters.files import read_hyperparameters
from editing.memit.pipeline import edit_alone
from editing.memit.targets import compute_targets
from editing.models.loading import load_editable_model
from editing.requests.edit_request import read_requests, sample_requests
from editing.sources.embedded import LARGER, locate_embedded
from sims.world.search import (
    COLUMNS,
    NEAR_BEST,
    REPORTED_SEEDS,
    SEARCH_SEEDS,
    SPACES,
    Trial,
    choose,
    draw_requests,
    score_merge,
    search,
    visible_requests,
    write_search,
)
from strategies.merges.pooled import CollabEditMerge


def trial(score: float, naive: float, weight: float = 1.0) -> Trial:
    """A trial that reached these scores."""
    metrics: Mapping[str, float] = dict.fromkeys(COLUMNS, score)
    parameters = Hyperparameters(layers=(0,), mom2_update_weight=weight)
    return Trial(parameters, metrics, naive)


def test_the_search_sees_no_reported_request() -> None:
    """What is reported was not chosen by."""
    pool = read_requests(locate_embedded() / "requests.json")
    visible = visible_requests(pool)
    for seed in REPORTED_SEEDS:
        drawn = {request.case_id for request in sample_requests(pool, 100, seed)}
        assert drawn.isdisjoint(request.case_id for request in visible)
    for seed in SEARCH_SEEDS:
        assert len(sample_requests(visible, 100, seed)) == 100


def test_the_larger_search_edits_people_whom_no_study_edits() -> None:
    """So its choice knows nothing of what any draw reports."""
    folder = locate_embedded(LARGER)
    edited = {each.subject for each in read_requests(folder / "requests.json")}
    for draw in draw_requests(folder, SPACES[LARGER]):
        assert len({each.subject for each in draw}) == 300
        assert edited.isdisjoint(each.subject for each in draw)


def test_the_best_score_wins_unless_another_is_alike_and_tells_merges_apart() -> None:
    """A point of score is less than what tells merges apart."""
    best, alike, worse = trial(95, 90), trial(95 - NEAR_BEST / 2, 50), trial(90, 10)
    assert choose([best, worse]) is best
    assert choose([best, alike, worse]) is alike
    assert choose([alike, best, worse], near_best=0.0) is best


@pytest.mark.training
def test_evaluating_the_global_merge_is_editing_alone() -> None:
    """The search edits as everything else does."""
    folder = locate_embedded()
    model = load_editable_model(str(folder))
    requests = sample_requests(read_requests(folder / "requests.json"), 10, 10)
    texts = (folder / "text.txt").read_text().splitlines()[:8]
    parameters = Hyperparameters(
        layers=(0, 1), v_num_grad_steps=3, mom2_update_weight=100.0
    )
    plan = Plan(parameters=parameters, schedule="layerwise", templates=("{}",))
    moments = compute_covariance(model, texts, (0, 1), "text.txt").moments
    # Few texts do not carry a solve; what they leave open is held by the identity.
    moments = {layer: m + m.new_ones(len(m)).diag() for layer, m in moments.items()}
    targets = compute_targets(model, requests, plan.templates, parameters)
    found = score_merge(model, requests, targets, plan, CollabEditMerge(), moments)
    priors = {layer: 100.0 * moment for layer, moment in moments.items()}
    delta = edit_alone(model, requests, plan, priors, targets)
    with applied(delta, model.model):
        wanted = sum_cases(evaluate_requests(model, requests)).means()
    assert found == pytest.approx(wanted)


def test_all_trials_are_recorded_and_one_is_chosen(tmp_path: Path) -> None:
    """The table has what was tried, not only what won."""
    trials = [trial(95, 90), trial(80, 50, weight=2.0)]
    write_search(tmp_path, trials, trials[0].parameters)
    rows = json.loads((tmp_path / "search.json").read_text())["trials"]
    assert [row["chosen"] for row in rows] == [True, False]
    lines = (tmp_path / "search.md").read_text().splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    chosen = read_hyperparameters(tmp_path / "hyperparameters.json")
    assert chosen == trials[0].parameters


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    with pytest.raises(FileExistsError, match="does not"):
        search(tmp_path)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_committed_hyperparameters_are_those_that_were_chosen(name: str) -> None:
    """Nobody has changed them by hand."""
    folder = locate_embedded(name)
    parameters = read_hyperparameters(folder / "hyperparameters.json").model_dump()
    rows = json.loads((folder / "search.json").read_text())["trials"]
    (chosen,) = (row for row in rows if row["chosen"])
    for name in ("clamp_norm_factor", "mom2_update_weight"):
        assert chosen[name] == parameters[name]
    assert chosen["layers"] == list(parameters["layers"])
