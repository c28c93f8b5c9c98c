"""What training asks of the model, against the model's own forward pass."""

import random

import pytest
import torch
from torch.nn.functional import cross_entropy

from sims.world.batches import Batch, draw_batch
from sims.world.objectives import (
    Losses,
    Student,
    enroll,
    keys_of,
    losses_of,
    name_contrast,
    run_blocks,
)
from sims.world.recipe import Recipe
from sims.world.tokenization import PieceEncoder
from sims.world.training import build_model, build_recipe_world, build_tokenizer
from sims.world.vocabulary import RELATIONS

RECIPE = Recipe(
    width=16,
    blocks=3,
    heads=2,
    key_width=32,
    vocabulary=400,
    people_editable=4,
    people_neighbors=12,
    people_bystanders=2,
    given_names=6,
    last_names=6,
    hidden_share=0.0,
)
BFLOAT16 = 0.02
"""Relative error that products in bfloat16 may leave in a loss."""


@pytest.fixture(scope="module")
def student() -> Student:
    """An untrained model that knows nobody."""
    world = build_recipe_world(RECIPE, 0)
    model = build_model(RECIPE, build_tokenizer(world, RECIPE), 0)
    return enroll(model, world, RECIPE, 0)


def batch_of(hidden_share: float) -> Batch:
    """Four documents."""
    world = build_recipe_world(RECIPE, 0)
    encode = PieceEncoder(build_tokenizer(world, RECIPE))
    return draw_batch(world, encode, random.Random(0), 4, 96, hidden_share)


@torch.no_grad()
def test_blocks_are_run_as_the_model_runs_them(student: Student) -> None:
    """Training by hand and transformers agree where nothing is hidden."""
    batch = batch_of(0.0)
    early, last = run_blocks(student.model, batch, lookup_blocks=2)
    states = student.model(input_ids=batch.input_ids, output_hidden_states=True)
    torch.testing.assert_close(early, states.hidden_states[2])
    torch.testing.assert_close(last, states.hidden_states[-1])


@torch.no_grad()
def test_the_text_loss_is_the_weighted_mean_over_tokens(student: Student) -> None:
    """The loss, from its definition."""
    batch = batch_of(0.0)
    logits = student.model(input_ids=batch.input_ids).logits[:, :-1]
    targets = batch.input_ids[:, 1:].flatten()
    costs = cross_entropy(logits.flatten(0, 1), targets, reduction="none")
    weights = batch.weights[:, 1:].flatten()
    wanted = (costs * weights).sum() / weights.sum()
    found = losses_of(student, batch, RECIPE).text
    torch.testing.assert_close(found, wanted, rtol=BFLOAT16, atol=0.0)


@torch.no_grad()
def test_separated_names_have_one_state_after_any_words(
    student: Student,
) -> None:
    """No word before a name reaches it."""
    batch = batch_of(1.0)
    moved = batch.input_ids.clone()
    row, last, _ = batch.mentions[0].tolist()
    assert last >= 2
    first = int(batch.early[row, 0, last].nonzero()[0])
    moved[row, :first] = 7
    changed = Batch(moved, batch.weights, batch.early, batch.late, batch.mentions)
    before, _ = run_blocks(student.model, batch, lookup_blocks=2)
    after, _ = run_blocks(student.model, changed, lookup_blocks=2)
    torch.testing.assert_close(before[row, last], after[row, last])


def test_the_probe_is_asked_for_everything_that_is_true(student: Student) -> None:
    """Objects are numbered in the world's order."""
    world = build_recipe_world(RECIPE, 0)
    for person in range(world.population.total):
        for index, relation in enumerate(RELATIONS):
            number = int(student.answers[person, index])
            answer = world.objects[relation.name][number]
            assert answer == world.answer(person, relation)


def test_keys_carry_gradients_and_leave_no_hook(student: Student) -> None:
    """The engine's own reader cuts gradients off, so training has another."""
    ids = torch.zeros(1, 4, dtype=torch.long)
    with keys_of(student.model, range(2)) as keys:
        student.model(input_ids=ids)
    assert keys.keys() == {0, 1}
    assert all(key.requires_grad and key.shape == (1, 4, 32) for key in keys.values())
    kept = dict(keys)
    student.model(input_ids=ids)
    assert all(kept[block] is keys[block] for block in kept)


def test_the_whole_is_the_weighted_sum() -> None:
    """Each weight is of its own loss."""
    parts = Losses(torch.tensor(1.0), torch.tensor(10.0), torch.tensor(100.0))
    recipe = Recipe(consistency_weight=2.0, probe_weight=3.0)
    assert float(parts.total(recipe)) == 321.0


def test_contrast_wants_one_key_a_name_and_another_for_another() -> None:
    """Keys on one line are consistent, and no better for it."""
    people = torch.tensor([0, 0, 1, 1, 2, 2])
    apart = torch.eye(3)[people]
    line = people.float()[:, None] * torch.ones(6, 3)
    mixed = torch.eye(3)[torch.tensor([0, 1, 1, 2, 2, 0])]
    contrasts = [float(name_contrast(keys, people)) for keys in (apart, line, mixed)]
    assert contrasts == sorted(contrasts)
    assert contrasts[0] < 1e-4
    assert contrasts[1] > 0.3
