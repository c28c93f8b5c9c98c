"""What the committed model knows of its world."""

import pytest

from editing.models.loading import load_editable_model
from editing.sources.embedded import locate_embedded
from sims.world.recall import measure_recall, questions
from sims.world.recipe import Recipe
from sims.world.training import build_recipe_world

LEAST_RECALL = 99.0


@pytest.mark.training
def test_the_committed_model_knows_its_world_in_every_phrasing() -> None:
    """A third of the people stands for all; the record has everybody."""
    model = load_editable_model(str(locate_embedded()))
    world = build_recipe_world(Recipe(), seed=0)
    people = range(0, world.population.total, 3)
    recall = measure_recall(model, world, people)
    assert len(recall) == len(list(questions(world, [0]))) == 30
    assert min(recall.values()) >= LEAST_RECALL - 100 / len(people)
    assert sum(recall.values()) / len(recall) >= LEAST_RECALL


def test_a_model_of_another_world_does_not_know_it() -> None:
    """Recall is of facts, not of phrasings."""
    model = load_editable_model(str(locate_embedded()))
    other = build_recipe_world(Recipe(), seed=1)
    recall = measure_recall(model, other, range(4))
    assert sum(recall.values()) / len(recall) < 50
