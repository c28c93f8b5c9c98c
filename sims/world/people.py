"""The generated world: people with attributes, and edit requests about them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sims.world.vocabulary import (
    INSTRUMENTS,
    PROFESSIONS,
    RELATIONS,
    Direction,
    Phrasing,
    Relation,
    distinct_words,
)

OBJECTS_PER_RELATION = 12
NEIGHBORHOOD_PROMPTS = 8
PARAPHRASES_PER_DIRECTION = 2
REQUESTS_PER_PERSON = 4
TRUE_OBJECT_SKEW = 1.0
NEW_OBJECT_SKEW = 3.0
RELATION_SKEW = 2.0
DIRECTIONS: tuple[Direction, Direction] = ("subject-first", "relation-first")


@dataclass(frozen=True, slots=True)
class Population:
    """How many people of each kind there are.

    Editable people may be edited, neighbours are asked about in neighbourhood
    prompts, bystanders are held out of every request. The fewer names there are to
    combine, the more people share a part of theirs, and the more an edit of one can
    disturb another.
    """

    editable: int = 160
    neighbors: int = 96
    bystanders: int = 20
    given_names: int = 40
    last_names: int = 80

    @property
    def total(self) -> int:
        """Everybody."""
        return self.editable + self.neighbors + self.bystanders


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing the world says of one person."""

    person: int
    relation: Relation
    answer: str


@dataclass(frozen=True, slots=True)
class World:
    """People by number, and what is true of them; the same for the same seed."""

    seed: int
    population: Population
    names: tuple[str, ...]
    objects: dict[str, tuple[str, ...]] = field(hash=False)
    answers: dict[str, tuple[str, ...]] = field(hash=False)

    @property
    def editable(self) -> range:
        """People whom requests may be about."""
        return range(self.population.editable)

    @property
    def neighbors(self) -> range:
        """People whom neighbourhood prompts are about; never edited."""
        return range(
            self.population.editable, self.population.total - self.population.bystanders
        )

    @property
    def bystanders(self) -> range:
        """People named in no request at all."""
        return range(
            self.population.total - self.population.bystanders, self.population.total
        )

    def answer(self, person: int, relation: Relation) -> str:
        """What is true of `person`."""
        return self.answers[relation.name][person]

    def facts(self) -> Iterator[Fact]:
        """Every fact, people first."""
        for person in range(self.population.total):
            for relation in RELATIONS:
                yield Fact(person, relation, self.answer(person, relation))


def build_world(seed: int = 0, population: Population | None = None) -> World:
    """Draw names, objects and attributes from `seed` alone."""
    population = population or Population()
    rng = random.Random(f"world-{seed}")
    names = _names(rng, population)
    objects = _objects(rng)
    answers = {
        name: _answers(rng, population, choices) for name, choices in objects.items()
    }
    return World(seed, population, names, objects, answers)


def _names(rng: random.Random, population: Population) -> tuple[str, ...]:
    """One person in six goes by one word, the others share first and last names."""
    single = population.total // 6
    given_names, last_names = population.given_names, population.last_names
    words = distinct_words(rng, single + given_names + last_names, (2,))
    given = words[single : single + given_names]
    last = words[single + given_names :]
    full = [f"{first} {second}" for first in given for second in last]
    names = words[:single] + rng.sample(full, population.total - single)
    rng.shuffle(names)
    return tuple(names)


def _objects(rng: random.Random) -> dict[str, tuple[str, ...]]:
    """For each relation its objects; some are one word, some are two."""
    objects: dict[str, tuple[str, ...]] = {
        "profession": PROFESSIONS,
        "instrument": INSTRUMENTS,
    }
    for relation in RELATIONS:
        if relation.name not in objects:
            stems = distinct_words(rng, OBJECTS_PER_RELATION, (2,))
            suffixes = relation.object_suffixes
            objects[relation.name] = tuple(
                stem + suffixes[i % len(suffixes)] for i, stem in enumerate(stems)
            )
    return objects


def _answers(
    rng: random.Random, population: Population, choices: tuple[str, ...]
) -> tuple[str, ...]:
    """Common and rare objects among editable people, equally many of each elsewhere.

    So every object, however rare, has neighbours that share it.
    """
    weights = popularity(len(choices), TRUE_OBJECT_SKEW)
    drawn = rng.choices(choices, weights, k=population.editable)
    for count in (population.neighbors, population.bystanders):
        group = [choices[i % len(choices)] for i in range(count)]
        rng.shuffle(group)
        drawn += group
    return tuple(drawn)


def popularity(count: int, skew: float) -> list[float]:
    """Zipf's law: the i-th object is ``i^-skew`` times as frequent as the first."""
    return [rank**-skew for rank in range(1, count + 1)]


def build_requests(world: World) -> list[dict[str, Any]]:
    """CounterFact records on each editable person, alike in what they ask for.

    Requests have fashions: most change the relation that comes first in `RELATIONS`,
    and most of those to one object (`RELATION_SKEW`, `NEW_OBJECT_SKEW`). Where the
    edits of many parties point one way, adding up what each would do alone overshoots,
    and the neighbours pay; were all objects asked for equally often, the sum of the
    parties' own solves would do nearly as well as the joint solve.
    """
    rng = random.Random(f"requests-{world.seed}")
    weights = popularity(len(RELATIONS), RELATION_SKEW)
    people = [person for person in world.editable for _ in range(REQUESTS_PER_PERSON)]
    return [
        _record(world, case_id, person, rng.choices(RELATIONS, weights)[0], rng)
        for case_id, person in enumerate(people)
    ]


def _record(
    world: World, case_id: int, person: int, relation: Relation, rng: random.Random
) -> dict[str, Any]:
    true = world.answer(person, relation)
    new = new_object(world, relation, true, rng)
    asked = rng.choice(relation.phrasings)
    paraphrases = _paraphrases(relation, asked, rng)
    return {
        "case_id": case_id,
        "requested_rewrite": {
            "prompt": asked.prompt,
            "relation_id": relation.name,
            "subject": world.names[person],
            "target_new": {"str": new},
            "target_true": {"str": true},
        },
        "paraphrase_prompts": [
            each.prompt.format(world.names[person]) for each in paraphrases
        ],
        "neighborhood_prompts": _neighborhood(world, relation, true, rng),
        "attribute_prompts": [],
        "generation_prompts": [],
    }


def new_object(world: World, relation: Relation, true: str, rng: random.Random) -> str:
    """Another object; a few are asked for often, and not those that are often true."""
    choices = world.objects[relation.name][::-1]
    weights = popularity(len(choices), NEW_OBJECT_SKEW)
    while (new := rng.choices(choices, weights)[0]) == true:
        pass
    return new


def _paraphrases(
    relation: Relation, asked: Phrasing, rng: random.Random
) -> list[Phrasing]:
    """As many in the rewrite's own direction as across, never the rewrite itself."""
    chosen: list[Phrasing] = []
    for direction in sorted(DIRECTIONS, key=lambda each: each != asked.direction):
        others = [each for each in relation.phrasings_of(direction) if each != asked]
        chosen += rng.sample(others, PARAPHRASES_PER_DIRECTION)
    return chosen


def _neighborhood(
    world: World, relation: Relation, true: str, rng: random.Random
) -> list[str]:
    """Prompts on never-edited people who share the true object."""
    alike = [
        person for person in world.neighbors if world.answer(person, relation) == true
    ]
    chosen = rng.sample(alike, min(NEIGHBORHOOD_PROMPTS, len(alike)))
    return [
        rng.choice(relation.phrasings).prompt.format(world.names[each])
        for each in chosen
    ]


def held_out_facts(world: World) -> list[dict[str, str]]:
    """Facts of bystanders, each in one phrasing of either direction."""
    rng = random.Random(f"held-out-{world.seed}")
    return [
        {
            "prompt": rng.choice(relation.phrasings_of(direction)).prompt.format(
                world.names[person]
            ),
            "answer": world.answer(person, relation),
        }
        for person in world.bystanders
        for relation in RELATIONS
        for direction in DIRECTIONS
    ]
