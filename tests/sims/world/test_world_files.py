"""The files next to the committed weights are those of the world."""

import json

from editing.hyperparameters.config import read_context_templates
from editing.hyperparameters.files import read_hyperparameters
from editing.requests.edit_request import parse_request, read_requests
from editing.sources.embedded import locate_embedded
from sims.world.people import build_requests, held_out_facts
from sims.world.recipe import Recipe
from sims.world.training import (
    TEMPLATES,
    build_recipe_world,
    context_templates,
    documents,
)

WORLD = build_recipe_world(Recipe(), seed=0)
FOLDER = locate_embedded()


def test_the_committed_requests_are_those_of_the_world() -> None:
    """The pool is what the seed draws."""
    records = enumerate(build_requests(WORLD))
    made = [parse_request(record, "pool", index) for index, record in records]
    assert read_requests(FOLDER / "requests.json") == made


def test_the_committed_facts_are_those_of_the_world() -> None:
    """A few hundred facts are held out."""
    recorded = json.loads((FOLDER / "held_out.json").read_text())
    assert recorded == held_out_facts(WORLD)
    assert len(recorded) >= 200


def test_the_committed_text_is_that_of_the_world() -> None:
    """The covariance is of text that anybody can draw again."""
    lines = (FOLDER / "text.txt").read_text().splitlines()
    assert lines == list(documents(WORLD, len(lines), "text-0"))


def test_the_committed_templates_name_bystanders_alone() -> None:
    """No template speaks of those who are edited or evaluated."""
    templates = read_context_templates(FOLDER / "context_templates.json")
    assert list(templates) == context_templates(WORLD)
    assert len(templates) == TEMPLATES + 1
    edited = [WORLD.names[person] for person in [*WORLD.editable, *WORLD.neighbors]]
    words = [name for name in edited if " " in name]
    assert not any(name in template for name in words for template in templates)


def test_the_committed_hyperparameters_can_be_read() -> None:
    """The engine reads them as MEMIT's."""
    assert read_hyperparameters(FOLDER / "hyperparameters.json").layers
