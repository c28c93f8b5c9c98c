"""The recipe and the record of the committed model."""

import json

import pytest
from pydantic import ValidationError
from safetensors import safe_open

from editing.base.errors import InputError
from editing.sources.embedded import locate_embedded
from sims.world.recipe import LARGER, RECIPES, Recipe, find_recipe
from sims.world.training import build_recipe_world

LEAST_RECALL = 99.0
MOST_BYTES = {"embedded": 16 * 2**20, "larger": 40 * 10**6}
"""Of all files of a model's folder."""


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_committed_record_is_of_this_recipe(name: str) -> None:
    """Who runs the script as it is trains what lies here."""
    folder, recipe = locate_embedded(name), RECIPES[name]
    record = json.loads((folder / "training.json").read_text())
    assert record["recipe"] == recipe.model_dump()
    assert record["lowest_recall"] >= LEAST_RECALL
    assert sum(file.stat().st_size for file in folder.iterdir()) <= MOST_BYTES[name]
    with safe_open(folder / "model.safetensors", "pt") as weights:
        shape = weights.get_slice("transformer.h.0.mlp.c_proj.weight").get_shape()
    assert shape == [recipe.key_width, recipe.width]


def test_a_misspelt_number_is_refused() -> None:
    """A recipe is closed."""
    with pytest.raises(ValidationError, match="step"):
        Recipe.model_validate({"step": 10})


def test_recipes_are_found_by_the_name_of_their_model() -> None:
    """The larger world has people enough for hundreds of edits; others are refused."""
    assert find_recipe("embedded") == Recipe()
    assert find_recipe("larger") == LARGER
    assert LARGER.people_editable >= 700
    assert build_recipe_world(LARGER, 0).population.total >= 1000
    assert LARGER.key_width >= 2048
    with pytest.raises(InputError, match="'large'; there are embedded, larger"):
        find_recipe("large")
