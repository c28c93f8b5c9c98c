"""The embedded model's hypernetwork is what its command makes, and it edits."""

import json
from pathlib import Path

import pytest
import torch

from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.malmen.files import FILE, read_hypernetwork
from editing.models.loading import EditableModel, load_editable_model
from editing.requests.edit_request import read_requests, sample_requests
from editing.sources.embedded import locate_embedded
from sims.world import hypernetwork
from sims.world.hypernetwork import (
    LAYERS,
    MOST_EDITS,
    RECORD,
    SETTINGS,
    edit,
    find_pairs,
    train_embedded,
)

FOLDER = locate_embedded()

MOST_BYTES = 4_000_000


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Load the embedded model."""
    return load_editable_model(str(FOLDER))


def test_the_committed_hypernetwork_is_small_and_the_one_of_the_record() -> None:
    """Its digest, its layers, and the recipe that made it."""
    record = json.loads((FOLDER / RECORD).read_text())
    net = read_hypernetwork(FOLDER / FILE)
    assert (FOLDER / FILE).stat().st_size <= MOST_BYTES
    assert net.digest() == record["digest"]
    assert net.shape.layers == LAYERS
    pairs = find_pairs(FOLDER, seed=0)
    share = MOST_EDITS / len(pairs)
    made = SETTINGS.model_copy(update={"share": share})
    assert record["settings"] == made.model_dump(mode="json")
    assert record["steps"][-1]["step"] == made.steps
    assert record["steps"][-1]["general"] < 0.5 * record["steps"][0]["general"]


def test_it_edits_requests_that_training_knows_nothing_of(model: EditableModel) -> None:
    """Far better than the model as it is, and than without what was trained."""
    net = read_hypernetwork(FOLDER / FILE)
    requests = sample_requests(read_requests(FOLDER / "requests.json"), 20, 3)
    before = sum_cases(evaluate_requests(model, requests)).means()
    after = edit(model, net, requests)
    zero = {name: torch.zeros_like(net.tensors[name]) for name in ("0.up", "1.up")}
    untrained = edit(model, net.with_tensors(zero), requests)
    assert before["score"] < 5
    assert after["score"] > untrained["score"] + 5
    assert after["rewrite_success"] > 60
    assert after["neighborhood_success"] > 40


def test_the_command_s_function_repeats_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what the result reaches."""
    pairs = find_pairs(FOLDER, seed=0)[::40]
    monkeypatch.setattr(hypernetwork, "find_pairs", lambda *_: pairs)
    monkeypatch.setattr(hypernetwork, "HELD_OUT", 4)
    monkeypatch.setattr(hypernetwork, "DRAWS", (0,))
    made = [train_embedded(tmp_path / name, steps=2) for name in ("a", "b")]
    assert made[0].digest() == made[1].digest()
    read = read_hypernetwork(tmp_path / "a" / FILE)
    assert read.digest() == made[0].digest()
    record = json.loads((tmp_path / "a" / RECORD).read_text())
    assert record["requests"] == len(pairs)
    assert [each["step"] for each in record["steps"]] == [2]
    assert {*record["held_out"][0]} == {*hypernetwork.MEASURES}
    with pytest.raises(FileExistsError):
        train_embedded(tmp_path / "a")
