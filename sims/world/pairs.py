"""Public edits of the generated world, to train a hypernetwork on.

Half of them change any fact to any object; the others follow the fashions of the
world's requests (`sims.world.people.build_requests`), so that a batch may be as
lopsided as what parties ask for. They are about bystanders and neighbours, whom no
request is about; nobody who may be edited in a run is named. A neighbour's facts are
edited and asked about in turn, so no batch edits what it must not change.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from editing.requests.edit_request import EditRequest
from sims.world.people import RELATION_SKEW, World, new_object, popularity
from sims.world.vocabulary import RELATIONS, Relation

OBJECTS = 3
"""Edits of a fact to any object; as many follow the fashions."""

PARAPHRASES = 2
"""Of each edit; half of its other wordings would be more than a step needs."""

NEIGHBORS = 2
"""Prompts about other people, for each edit."""


@dataclass(frozen=True, slots=True)
class PublicFacts:
    """Facts that are edited in public, and those that are asked about.

    Attributes:
        world: The generated world.
    """

    world: World

    @property
    def people(self) -> list[int]:
        """Bystanders, and neighbours: nobody whom a request is about."""
        return [*self.world.neighbors, *self.world.bystanders]

    def edits(self, person: int, relation: Relation) -> bool:
        """Whether a fact may be edited; of a neighbour, every other one is."""
        turn = person + RELATIONS.index(relation)
        return person in self.world.bystanders or turn % 2 == 0

    def relations(self, person: int) -> list[Relation]:
        """The relations of a person that are edited."""
        return [each for each in RELATIONS if self.edits(person, each)]

    def alike(self, relation: Relation, answer: str) -> list[int]:
        """People of whom the same is true, and stays true."""
        return [
            person
            for person in self.world.neighbors
            if self.world.answer(person, relation) == answer
            and not self.edits(person, relation)
        ]


def public_pairs(world: World, seed: int = 0) -> list[EditRequest]:
    """Make edits of the people who are edited in public.

    Args:
        world: The generated world.
        seed: Draws objects, wordings and prompts.
    """
    rng = random.Random(f"pairs-{world.seed}-{seed}")
    facts = PublicFacts(world)
    found: list[EditRequest] = []
    for person in facts.people:
        for relation, new in (*_any(facts, person, rng), *_usual(facts, person, rng)):
            true = world.answer(person, relation)
            texts = _texts(facts, person, relation, rng)
            found.append(_edit(len(found), world.names[person], true, new, texts))
    return found


def _any(
    facts: PublicFacts, person: int, rng: random.Random
) -> Iterator[tuple[Relation, str]]:
    """Change each fact of a person to some other objects."""
    world = facts.world
    for relation in facts.relations(person):
        true = world.answer(person, relation)
        others = [each for each in world.objects[relation.name] if each != true]
        for new in rng.sample(others, OBJECTS):
            yield relation, new


def _usual(
    facts: PublicFacts, person: int, rng: random.Random
) -> Iterator[tuple[Relation, str]]:
    """Change facts of a person as requests do."""
    own, world = facts.relations(person), facts.world
    weights = popularity(len(RELATIONS), RELATION_SKEW)
    chances = [weights[RELATIONS.index(each)] for each in own]
    for relation in rng.choices(own, chances, k=OBJECTS * len(own)):
        true = world.answer(person, relation)
        yield relation, new_object(world, relation, true, rng)


def _texts(
    facts: PublicFacts, person: int, relation: Relation, rng: random.Random
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Draw the prompt of an edit, other wordings, and prompts about other people."""
    asked, *others = rng.sample(relation.phrasings, 1 + PARAPHRASES)
    world = facts.world
    alike = facts.alike(relation, world.answer(person, relation))
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
