"""What a client computes is what the engine computes, and targets only once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from clients.contribution import contribute, find_targets, judge_requests, kept_targets
from clients.storage import PrivateFolder
from editing.architectures import EditableModel
from editing.config import Plan
from editing.encodings import decode
from editing.evaluation import evaluate_requests
from editing.pipeline import read_pairs
from editing.requests import parse_request
from editing.targets import compute_targets
from strategies.messages import Job, ModelIdentity
from tests.federation import QUICK
from tests.laws import ALGEBRA, assert_same, assert_same_statistics
from tests.tiny import LAYERS, PARAMETERS, TEMPLATES, tiny_model, tiny_requests

PLAN = Plan(
    parameters=PARAMETERS.model_copy(update=QUICK),
    schedule="frozen-harmonic",
    templates=TEMPLATES[:2],
)
JOB = Job(
    identity=ModelIdentity(weights="w", tokenizer="t"),
    plan=PLAN,
    round=1,
    layers=LAYERS,
)
REQUESTS = tiny_requests(4)


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Make one tiny model."""
    return tiny_model()


@pytest.fixture(scope="module")
def targets(model: EditableModel) -> Tensor:
    """Compute all targets at once."""
    return compute_targets(model, REQUESTS, PLAN.templates, PLAN.parameters)


def test_targets_are_those_of_the_engine_and_kept(
    model: EditableModel,
    targets: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept is not computed again, and keeps its row."""
    folder = PrivateFolder(tmp_path)
    first = find_targets(model, REQUESTS[1:3], JOB, folder)
    assert_same(first, targets[1:3], ALGEBRA)
    computed: list[int] = []

    def count(*arguments: object) -> Tensor:
        computed.append(len(arguments[1]))  # type: ignore[arg-type]
        found: Tensor = compute_targets(*arguments)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr("clients.contribution.compute_targets", count)
    found = find_targets(model, REQUESTS, JOB, folder, 1)
    assert computed == [2]
    assert torch.equal(found[1:3], first)
    assert_same(found, targets, ALGEBRA)
    assert torch.equal(kept_targets(REQUESTS, JOB, folder), found)
    assert torch.equal(find_targets(model, REQUESTS[::-1], JOB, folder), found.flip(0))
    assert computed == [2]


def test_a_target_that_is_gone_is_an_error_that_counts(
    model: EditableModel, tmp_path: Path
) -> None:
    """Statistics of other requests than were counted would be wrong in silence."""
    folder = PrivateFolder(tmp_path)
    find_targets(model, REQUESTS[:1], JOB, folder)
    with pytest.raises(LookupError, match="2 targets of round 1"):
        kept_targets(REQUESTS[:3], JOB, folder)


@pytest.mark.parametrize("encoding", ["factors", "dense"])
def test_what_is_sent_decodes_to_the_statistics_of_keys_and_residuals(
    model: EditableModel, targets: Tensor, encoding: str
) -> None:
    """Of each layer that was asked for, and of no other."""
    pairs = read_pairs(model, REQUESTS, targets, PLAN, LAYERS)
    for layers in (LAYERS, LAYERS[:1]):
        job = JOB.model_copy(update={"encoding": encoding, "layers": layers})
        sent = contribute(model, REQUESTS, targets, job, seed=None)
        assert tuple(sent) == layers
        for layer, encoded in sent.items():
            d_out, d_in = model.widths(layer)
            assert encoded.encoding == encoding
            assert_same_statistics(
                decode(encoded, d_in, d_out), pairs[layer].statistics
            )


def test_a_simulation_repeats_its_rotations_and_nothing_else_does(
    model: EditableModel, targets: Tensor
) -> None:
    """Seed, round and layer draw another one each; without a seed, the system does."""

    def keys(seed: str | None, number: int = 1, layer: int = 1) -> Tensor:
        job = JOB.model_copy(update={"round": number})
        sent = contribute(model, REQUESTS, targets, job, seed)
        return sent[layer].tensors["keys"]

    same = keys("0/1")
    assert torch.equal(same, keys("0/1"))
    for other in (keys("0/2"), keys("1/1"), keys("0/1", 2), keys(None)):
        assert not torch.allclose(same, other)
        assert_same(other.mT @ other, same.mT @ same)
    assert not torch.equal(keys(None), keys(None))
    scaled = [
        keys("0/1", layer=k) @ torch.linalg.pinv(keys(None, layer=k)) for k in LAYERS
    ]
    assert not torch.allclose(*scaled)


def test_cases_are_those_of_the_evaluation_with_what_was_asked(
    model: EditableModel,
) -> None:
    """A party can read its own case files."""
    cases = judge_requests(model, REQUESTS)
    expected = evaluate_requests(model, REQUESTS)
    for case, plain, request in zip(cases, expected, REQUESTS, strict=True):
        assert case["post"] == plain["post"]
        assert (case["case_id"], case["num_edits"]) == (request.case_id, 4)
        assert isinstance(case["time"], float)
        read = parse_request(
            {k: case[k] for k in ("case_id", "requested_rewrite")}, "case"
        )
        assert (read.prompt, read.subject) == (request.prompt, request.subject)
        assert (read.target_new, read.target_true) == (
            request.target_new,
            request.target_true,
        )
    assert judge_requests(model, []) == []
