"""What training asks of the model: text, one key a name, and facts at the name."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.hooks import RemovableHandle
from transformers import GPT2LMHeadModel

from sims.world.batches import Batch
from sims.world.people import OBJECTS_PER_RELATION, World
from sims.world.recipe import Recipe
from sims.world.vocabulary import RELATIONS

TEMPERATURE = 0.1
"""Of the softmax over names, see `name_contrast`."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The three things that training asks for."""

    text: Tensor
    contrast: Tensor
    probe: Tensor

    def total(self, recipe: Recipe) -> Tensor:
        """Their weighted sum."""
        contrast = recipe.consistency_weight * self.contrast
        return self.text + contrast + recipe.probe_weight * self.probe


class Probe(nn.Module):
    """Reads all attributes of a person off one hidden state; not kept."""

    def __init__(self, width: int, relations: int, objects: int) -> None:
        """Draw the weights."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.read = nn.Linear(width, relations * objects)
        self.objects = objects

    def forward(self, states: Tensor) -> Tensor:
        """Scores, ``n × objects × relations``."""
        scores: Tensor = self.read(self.norm(states))
        return scores.view(len(states), self.objects, -1)


@dataclass(frozen=True, slots=True)
class Student:
    """The model in training, its probe, and each person's attributes by number."""

    model: GPT2LMHeadModel
    probe: Probe
    answers: Tensor


def enroll(model: GPT2LMHeadModel, world: World, recipe: Recipe, seed: int) -> Student:
    """Give the model a probe, its weights drawn from `seed`."""
    answers = torch.tensor(
        [
            [world.objects[r.name].index(world.answer(person, r)) for r in RELATIONS]
            for person in range(world.population.total)
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        probe = Probe(recipe.width, len(RELATIONS), OBJECTS_PER_RELATION)
    return Student(model, probe, answers)


def losses_of(student: Student, batch: Batch, recipe: Recipe) -> Losses:
    """The weighted loss on the text, and what is asked of names.

    Products are in bfloat16, the weights and all losses in float32.
    """
    wanted = batch.weights[:, 1:] > 0
    rows, columns, people = batch.mentions.unbind(dim=1)
    blocks = range(recipe.consistent_blocks)
    with torch.autocast("cpu", torch.bfloat16), keys_of(student.model, blocks) as keys:
        looked_up, states = run_blocks(student.model, batch, recipe.lookup_blocks)
        logits = student.model.lm_head(states[:, :-1][wanted]).float()
    costs = cross_entropy(logits, batch.input_ids[:, 1:][wanted], reduction="none")
    weights = batch.weights[:, 1:][wanted]
    contrasts = [name_contrast(keys[i][rows, columns].float(), people) for i in blocks]
    guesses = student.probe(looked_up[rows, columns].float())
    return Losses(
        (costs * weights).sum() / weights.sum(),
        torch.stack(contrasts).mean(),
        cross_entropy(guesses, student.answers[people]),
    )


def run_blocks(
    model: GPT2LMHeadModel, batch: Batch, lookup_blocks: int
) -> tuple[Tensor, Tensor]:
    """Hidden states after the blocks that look names up, and at the end."""
    body = model.transformer
    positions = torch.arange(batch.input_ids.shape[1])
    states = body.wte(batch.input_ids) + body.wpe(positions)
    looked_up = states
    for index, block in enumerate(body.h):
        visible = batch.early if index < lookup_blocks else batch.late
        states = block(states, attention_mask=visible)
        looked_up = states if index == lookup_blocks - 1 else looked_up
    return looked_up, body.ln_f(states)


@contextmanager
def keys_of(
    model: GPT2LMHeadModel, blocks: Iterable[int]
) -> Iterator[dict[int, Tensor]]:
    """Collect the keys of some blocks, with their gradients."""
    keys: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for block in blocks:
            stack.callback(_collect(model, block, keys).remove)
        yield keys


def _collect(
    model: GPT2LMHeadModel, block: int, keys: dict[int, Tensor]
) -> RemovableHandle:
    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        keys[block] = inputs[0]

    projection = model.get_submodule(f"transformer.h.{block}.mlp.c_proj")
    return projection.register_forward_pre_hook(keep)


def name_contrast(
    keys: Float[Tensor, "n d_in"], people: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Return how badly a key identifies the person whose name it is read at, in nats.

    With ``c`` the keys minus their mean, scaled to length one, and ``m_p`` the mean of
    ``c`` over the mentions of person ``p``, scaled likewise,

        mean over mentions of  −log softmax_p(⟨c, m_p⟩ / 0.1) at its own person

    It is small if a name has one key in every context *and* different names have
    different keys. The second half matters: the mere spread inside names, compared with
    the spread between them, is small too if all keys lie on one line, and such a model
    cannot be edited. A model that reads the relation before the name tends to fetch
    that attribute alone, and then an edit made in one order of name and relation misses
    the other.
    """
    directions = normalize(keys - keys.mean(dim=0), dim=1)
    _, index = people.unique(return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, keys.shape[1], dtype=keys.dtype)
    centres = normalize(sums.index_add(0, index, directions), dim=1)
    return cross_entropy(directions @ centres.mT / TEMPERATURE, index)
