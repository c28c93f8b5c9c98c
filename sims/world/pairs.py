"""Public edits of the generated world, to train a hypernetwork on.

One in four changes any fact to any object; the others follow the fashions of the
world's requests (`sims.world.people.build_requests`), so that a batch is as lopsided as
what parties ask for. They are about people whom no request of the model's own is about:
bystanders, and half of the neighbours. The other half are those that neighbourhood
prompts ask about, so no batch edits what it must not change. Nobody who may be edited
in a run is named.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from editing.requests.edit_request import EditRequest
from sims.world.people import RELATION_SKEW, World, new_object, popularity
from sims.world.vocabulary import RELATIONS, Relation

USUAL = 15
"""Edits of a person that follow the fashions."""

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


def public_pairs(world: World, seed: int = 0) -> list[EditRequest]:
    """Make edits of the people who are edited in public.

    Args:
        world: The generated world.
        seed: Draws objects, wordings and prompts.
    """
    rng = random.Random(f"pairs-{world.seed}-{seed}")
    people = PublicPeople.of_world(world)
    found: list[EditRequest] = []
    for person in people.edited:
        for relation, new in (*_any(world, person, rng), *_usual(world, person, rng)):
            true = world.answer(person, relation)
            texts = _texts(world, people, person, relation, rng)
            found.append(_edit(len(found), world.names[person], true, new, texts))
    return found


def _any(
    world: World, person: int, rng: random.Random
) -> Iterator[tuple[Relation, str]]:
    """Change each fact of a person once."""
    for relation in RELATIONS:
        true = world.answer(person, relation)
        others = [each for each in world.objects[relation.name] if each != true]
        yield relation, rng.choice(others)


def _usual(
    world: World, person: int, rng: random.Random
) -> Iterator[tuple[Relation, str]]:
    """Change facts of a person as requests do."""
    weights = popularity(len(RELATIONS), RELATION_SKEW)
    for relation in rng.choices(RELATIONS, weights, k=USUAL):
        true = world.answer(person, relation)
        yield relation, new_object(world, relation, true, rng)


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
