"""Public edits of the generated world, to train a hypernetwork on.

They are about people whom no request of the model's own is about: bystanders, and half
of the neighbours. The other half are those that neighbourhood prompts ask about, so no
batch edits what it must not change. Nobody who may be edited in a run is named.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from editing.requests.edit_request import EditRequest
from sims.world.people import World
from sims.world.vocabulary import RELATIONS, Relation

PARAPHRASES = 2
"""Of each edit; half of its other wordings would be more than a step needs."""

NEIGHBORS = 2
"""Prompts about other people, for each edit."""


@dataclass(frozen=True, slots=True)
class PublicPeople:
    """Who is edited in public, and who is asked about."""

    edited: Sequence[int]
    asked: Sequence[int]

    @classmethod
    def of_world(cls, world: World) -> "PublicPeople":
        """Take bystanders and every other neighbour to edit."""
        return cls([*world.neighbors[::2], *world.bystanders], world.neighbors[1::2])


def public_pairs(world: World, per_fact: int = 1, seed: int = 0) -> list[EditRequest]:
    """Make edits of every fact of the people who are edited in public.

    Args:
        world: The generated world.
        per_fact: Edits of a fact, each to another object in another wording.
        seed: Draws objects, wordings and prompts.
    """
    rng = random.Random(f"pairs-{world.seed}-{seed}")
    people = PublicPeople.of_world(world)
    found: list[EditRequest] = []
    for person in people.edited:
        for relation in RELATIONS:
            true = world.answer(person, relation)
            others = [o for o in world.objects[relation.name] if o != true]
            for new in rng.sample(others, per_fact):
                texts = _texts(world, people, person, relation, rng)
                found.append(_edit(len(found), world.names[person], true, new, texts))
    return found


def _texts(
    world: World,
    people: PublicPeople,
    person: int,
    relation: Relation,
    rng: random.Random,
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Draw the prompt of an edit, other wordings, and prompts about other people."""
    asked, *others = rng.sample(relation.phrasings, 1 + PARAPHRASES)
    true = world.answer(person, relation)
    alike = [p for p in people.asked if world.answer(p, relation) == true]
    near = rng.sample(alike, min(NEIGHBORS, len(alike)))
    prompts = [rng.choice(relation.phrasings).prompt for _ in near]
    return (
        asked.prompt,
        tuple(each.prompt.format(world.names[person]) for each in others),
        tuple(
            prompt.format(world.names[p])
            for prompt, p in zip(prompts, near, strict=True)
        ),
    )


def _edit(
    number: int,
    subject: str,
    true: str,
    new: str,
    texts: tuple[str, tuple[str, ...], tuple[str, ...]],
) -> EditRequest:
    prompt, paraphrases, neighborhood = texts
    return EditRequest(
        case_id=number,
        prompt=prompt,
        subject=subject,
        target_new=new,
        target_true=true,
        paraphrase_prompts=paraphrases,
        neighborhood_prompts=neighborhood,
    )
