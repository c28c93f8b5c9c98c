"""The files next to the committed weights are those of the world."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from editing.hyperparameters.config import read_context_templates
from editing.hyperparameters.files import read_hyperparameters
from editing.requests.edit_request import parse_request, read_requests
from editing.sources.embedded import locate_embedded
from sims.world.people import World, build_requests, held_out_facts
from sims.world.recipe import RECIPES
from sims.world.training import (
    TEMPLATES,
    build_recipe_world,
    context_templates,
    documents,
)


@dataclass(frozen=True, slots=True)
class Place:
    """A committed model's folder and its world."""

    folder: Path
    world: World


@pytest.fixture(scope="module", params=sorted(RECIPES))
def place(request: pytest.FixtureRequest) -> Place:
    """Build the world of each committed model once."""
    recipe = RECIPES[request.param]
    return Place(locate_embedded(request.param), build_recipe_world(recipe, seed=0))


def test_the_committed_requests_are_those_of_the_world(place: Place) -> None:
    """The pool is what the seed draws."""
    records = enumerate(build_requests(place.world))
    made = [parse_request(record, "pool", index) for index, record in records]
    assert read_requests(place.folder / "requests.json") == made


def test_the_committed_facts_are_those_of_the_world(place: Place) -> None:
    """A few hundred facts are held out."""
    recorded = json.loads((place.folder / "held_out.json").read_text())
    assert recorded == held_out_facts(place.world)
    assert len(recorded) >= 200


def test_the_committed_text_is_that_of_the_world(place: Place) -> None:
    """The covariance is of text that anybody can draw again."""
    lines = (place.folder / "text.txt").read_text().splitlines()
    assert lines == list(documents(place.world, len(lines), "text-0"))


def test_the_committed_templates_name_bystanders_alone(place: Place) -> None:
    """No template speaks of those who are edited or evaluated."""
    world = place.world
    templates = read_context_templates(place.folder / "context_templates.json")
    assert list(templates) == context_templates(world)
    assert len(templates) == TEMPLATES + 1
    edited = [world.names[person] for person in [*world.editable, *world.neighbors]]
    words = [name for name in edited if " " in name]
    assert not any(name in template for name in words for template in templates)


def test_the_committed_hyperparameters_can_be_read(place: Place) -> None:
    """The engine reads them as MEMIT's."""
    assert read_hyperparameters(place.folder / "hyperparameters.json").layers
