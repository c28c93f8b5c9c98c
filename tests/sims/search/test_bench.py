"""A trial edits and evaluates as a run does, and measures what the edit did."""

from pathlib import Path

import pytest
import torch

from editing.algebra.deltas import applied
from editing.base.errors import InputError
from editing.covariance.covariance import compute_covariance, with_ridge
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.hyperparameters.config import Plan
from editing.hyperparameters.files import read_hyperparameters
from editing.memit.pipeline import edit_alone
from editing.memit.targets import Targets
from editing.models.loading import load_editable_model
from editing.requests.edit_request import read_requests
from sims.search.bench import (
    SEARCH,
    VALIDATION,
    Bench,
    diagnose,
    score_of,
    split_requests,
    text_for,
)


def make_bench(world: Path) -> Bench:
    """Make a bench of the tiny model."""
    parts = split_requests(read_requests(world / "requests.json"), 4, 0)
    model = load_editable_model(str(world), "float64", "cpu")
    return Bench(model, parts, ("{}",), "embedded", str(world))


def test_a_trial_is_an_edit_with_all_requests_at_once(world: Path) -> None:
    """With the text's covariance, and the model is as it was afterwards."""
    bench = make_bench(world)
    parameters = read_hyperparameters(world / "hyperparameters.json").model_copy(
        update={"layers": (0, 1), "mom2_update_weight": 10.0}
    )
    before = bench.model.fingerprint
    trial = bench.try_out(parameters, SEARCH)
    model = load_editable_model(str(world), "float64", "cpu")
    assert model.fingerprint == before == bench.model.fingerprint
    texts = (world / "text.txt").read_text().splitlines()
    covariance = with_ridge(compute_covariance(model, texts, (0, 1), "text.txt"))
    priors = {layer: 10.0 * moment for layer, moment in covariance.moments.items()}
    plan = Plan(parameters=parameters, schedule="layerwise", templates=("{}",))
    requests = bench.parts[SEARCH]
    delta = edit_alone(model, requests, plan, priors)
    with applied(delta, model.model):
        wanted = sum_cases(evaluate_requests(model, requests)).means()
    assert trial.metrics == pytest.approx(wanted)
    assert trial.score == pytest.approx(score_of(wanted))
    names = [model.weight_name(layer) for layer in (0, 1)]
    ratios = [delta[n].norm() / model.model.get_parameter(n).norm() for n in names]
    assert trial.diagnosis["update_ratio"] == pytest.approx(float(max(ratios)))


def test_a_larger_prior_weight_leaves_more_of_the_residual(world: Path) -> None:
    """And changes the weights less."""
    bench = make_bench(world)
    base = read_hyperparameters(world / "hyperparameters.json")
    weak, strong = (
        bench.try_out(
            base.model_copy(update={"mom2_update_weight": weight}), SEARCH
        ).diagnosis
        for weight in (1.0, 1e6)
    )
    assert weak["residual_left"] < 0.9 < strong["residual_left"] <= 1.0001
    assert strong["update_ratio"] < weak["update_ratio"]


def test_a_choice_that_cannot_be_solved_fails_alone(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no score, and says why."""
    bench = make_bench(world)
    parameters = read_hyperparameters(world / "hyperparameters.json")
    bench.prepare(parameters.layers)
    zeros = {
        layer: torch.zeros(width, width, dtype=torch.float64)
        for layer in parameters.layers
        for width in [bench.model.widths(layer)[1]]
    }
    monkeypatch.setattr(bench, "_moments", zeros)
    trial = bench.try_out(parameters, SEARCH)
    assert trial.score == 0
    assert "not positive definite" in trial.failure


def test_the_diagnosis_is_the_mean_over_requests() -> None:
    """A request without a shift has no residual to leave."""
    targets = Targets(
        hidden=torch.tensor([[0.0, 0.0], [1.0, 0.0]]),
        shift=torch.tensor([[0.0, 2.0], [0.0, 0.0]]),
        loss=torch.tensor([0.0, 2.0]),
        stopped=torch.tensor([True, False]),
        clamped=torch.tensor([False, False]),
    )
    found = diagnose(targets, torch.tensor([[0.0, 1.5], [9.0, 9.0]]).double())
    assert found["target_loss"] == 1.0
    assert found["target_probability"] == pytest.approx((1 + 2.718281828**-2) / 2)
    assert (found["target_stopped"], found["target_clamped"]) == (0.5, 0.0)
    assert found["residual_left"] == 0.25


@pytest.mark.parametrize(
    ("metrics", "score"),
    [
        (
            {
                "rewrite_success": 100.0,
                "paraphrase_success": 50.0,
                "neighborhood_success": 50.0,
                "rewrite_acc": 1.0,
            },
            60.0,
        ),
        ({"rewrite_success": 80.0, "neighborhood_success": 80.0}, 80.0),
        ({"rewrite_acc": 30.0, "paraphrase_acc": 0.0}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_score_takes_what_the_requests_allow_to_measure(
    metrics: dict[str, float], score: float
) -> None:
    """Successes, or accuracies where no true object is known."""
    assert score_of(metrics) == pytest.approx(score)


def test_both_parts_are_about_different_subjects(world: Path) -> None:
    """The choice is validated on requests that it was not made with."""
    requests = read_requests(world / "requests.json")
    twice = [*requests, *(each.model_copy(update={"case_id": 1}) for each in requests)]
    parts = split_requests(twice, 5, 0)
    subjects = {part: {each.subject for each in parts[part]} for part in parts}
    assert len(parts[SEARCH]) == len(parts[VALIDATION]) == 5
    assert len(subjects[SEARCH] | subjects[VALIDATION]) == 10
    assert split_requests(twice, 5, 0) == parts
    assert split_requests(twice, 5, 1) != parts
    assert len(split_requests(requests, 50, 0)[SEARCH]) == 6
    with pytest.raises(InputError, match="two subjects at least"):
        split_requests(requests[:1], 5, 0)


def test_the_text_is_the_models_own_where_it_has_one(
    world: Path, tmp_path: Path
) -> None:
    """Else the model writes it."""
    assert text_for(str(world), None) == "embedded"
    assert text_for(str(tmp_path), None) == "self"
    assert text_for(str(world), "mine.txt") == "mine.txt"
