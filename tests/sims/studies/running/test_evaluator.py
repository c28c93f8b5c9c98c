"""Further requests are evaluated by the edited model."""

from pathlib import Path

import torch

from editing.algebra.deltas import save_delta
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.models.loading import load_editable_model
from editing.requests.edit_request import read_requests
from sims.studies.running.evaluator import RequestEvaluator
from strategies.scenario import ModelConfig


def test_further_requests_are_evaluated_by_the_edited_model(
    world: Path, tmp_path: Path
) -> None:
    """As evaluating by hand does; nothing is loaded where nothing is asked."""
    model = load_editable_model(str(world), "float32", "cpu")
    requests = read_requests(world / "requests.json", 3)
    layer = 1
    update = torch.randn(
        model.widths(layer), generator=torch.Generator().manual_seed(0)
    )
    path = tmp_path / "delta.safetensors"
    save_delta({model.weight_name(layer): update}, path, {"base": model.fingerprint})
    found = RequestEvaluator(ModelConfig(path=str(world)))({"some": requests}, path)
    before = sum_cases(evaluate_requests(model, requests)).means()
    model.down_projection(layer).get_parameter("weight").data += update.mT
    assert found == {"some": sum_cases(evaluate_requests(model, requests)).means()}
    assert found["some"] != before
    assert RequestEvaluator(ModelConfig(path="nowhere"))({}, path) == {}
