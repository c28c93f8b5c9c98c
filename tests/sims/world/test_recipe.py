"""The recipe and the record of the committed model."""

import json

import pytest
from pydantic import ValidationError

from editing.base.errors import InputError
from editing.sources.embedded import locate_embedded
from sims.world.recipe import LARGER, Recipe, find_recipe

LEAST_RECALL = 99.0
MOST_WEIGHT_BYTES = 16 * 2**20


def test_the_committed_record_is_of_this_recipe() -> None:
    """Who runs the script as it is trains what lies here."""
    folder = locate_embedded()
    record = json.loads((folder / "training.json").read_text())
    assert record["recipe"] == Recipe().model_dump()
    assert record["lowest_recall"] >= LEAST_RECALL
    assert (folder / "model.safetensors").stat().st_size <= MOST_WEIGHT_BYTES


def test_a_misspelt_number_is_refused() -> None:
    """A recipe is closed."""
    with pytest.raises(ValidationError, match="step"):
        Recipe.model_validate({"step": 10})


def test_recipes_are_found_by_the_name_of_their_model() -> None:
    """The larger world has people enough for hundreds of edits; others are refused."""
    assert find_recipe("embedded") == Recipe()
    assert find_recipe("larger") == LARGER
    assert LARGER.people_editable >= 700
    assert LARGER.people_editable + LARGER.people_neighbors >= 950
    with pytest.raises(InputError, match="'large'; there are embedded, larger"):
        find_recipe("large")
