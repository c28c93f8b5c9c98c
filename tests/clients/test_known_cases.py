"""What was evaluated once on a model is not evaluated on it again."""

import json
from collections.abc import Callable

import pytest
import torch
from flwr.app import Array, ArrayRecord

import clients.contribution
from editing.evaluation.cases import CaseRecord, evaluate_requests
from strategies.wire.messages import Phase, write_job
from strategies.wire.metrics import read_evaluation
from tests.clients.nodes import ask
from tests.federation import Federation
from tests.tiny import LAYERS

Make = Callable[..., Federation]


def test_requests_are_evaluated_once_on_the_same_model(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever merge made it; the cases and sums are those of the first time."""
    evaluated: list[int] = []

    def count(*given: object, **named: object) -> list[CaseRecord]:
        evaluated.append(len(given))
        return evaluate_requests(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(clients.contribution, "evaluate_requests", count)
    federation = federate()
    model, layer = federation.preparation.model, LAYERS[-1]
    draw = torch.Generator().manual_seed(1)
    change = torch.randn(model.widths(layer), generator=draw, dtype=torch.float64)
    update = {model.weight_name(layer): Array(change.numpy())}
    said = []
    for label, arrays in (
        ("ties", ArrayRecord()),
        ("ties", ArrayRecord(update)),
        ("average", ArrayRecord(update)),
        ("pooled", ArrayRecord()),
    ):
        job = federation.preparation.job(federation.config, label, pooled=False)
        job = job.model_copy(update={"round": 1, "layers": LAYERS[:1]})
        asking = write_job(job, arrays)
        ask(federation, Phase.TARGETS, asking)
        said.append(read_evaluation(ask(federation, Phase.EVALUATE, asking).content))
    assert len(evaluated) == 2
    assert said[0] == said[3]
    assert said[1] == said[2] != said[0]
    files = sorted(federation.private.glob("*/cases/*/*/*.jsonl"))
    lines = [file.read_text().splitlines() for file in files]
    average, pooled, ties = (
        [{**json.loads(line), "time": 0} for line in each] for each in lines
    )
    assert average == ties != pooled
