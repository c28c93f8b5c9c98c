"""Training of the embedded model, on a tiny recipe."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from editing.covariance.covariance import compute_covariance
from editing.models.loading import load_editable_model
from editing.requests.edit_request import read_requests
from sims.world.recipe import Recipe
from sims.world.training import schedule, train_world

TINY = Recipe(
    width=32,
    blocks=3,
    heads=2,
    key_width=64,
    vocabulary=600,
    people_editable=12,
    people_neighbors=24,
    people_bystanders=4,
    given_names=8,
    last_names=8,
    steps=20,
    warmup_steps=2,
    documents=8,
    learning_rate=1e-2,
)


@pytest.mark.training
def test_training_lowers_the_loss_and_writes_a_model_that_loads(tmp_path: Path) -> None:
    """Twenty steps of a tiny recipe, to the end."""
    losses = train_world(tmp_path / "first", seed=3, recipe=TINY)
    assert losses[-1].text < 0.9 * losses[0].text
    assert losses[-1].probe < losses[0].probe
    model = load_editable_model(str(tmp_path / "first"))
    assert model.widths(0) == (32, 64)
    requests = read_requests(tmp_path / "first" / "requests.json")
    assert {len(request.neighborhood_prompts) for request in requests} == {2}
    texts = (tmp_path / "first" / "text.txt").read_text().splitlines()
    covariance = compute_covariance(model, texts[:20], [0], "text.txt")
    assert covariance.provenance.tokens > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first"]


@pytest.mark.training
def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    """Randomness is an argument."""
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        train_world(tmp_path / name, seed, steps=2, recipe=TINY)
    first, again, other = (
        load_file(tmp_path / name / "model.safetensors")
        for name in ("first", "again", "other")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["transformer.wpe.weight"], other["transformer.wpe.weight"]
    )


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    with pytest.raises(FileExistsError, match="does not"):
        train_world(tmp_path, recipe=TINY)


def test_the_learning_rate_rises_and_falls_to_its_end() -> None:
    """A linear rise, then half a cosine."""
    recipe = Recipe(steps=100, warmup_steps=10, final_rate=0.1)
    rates = [schedule(step, recipe) for step in range(101)]
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[100] == pytest.approx(0.1)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
