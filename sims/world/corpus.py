"""Text about the world, in which words before a name rarely settle what is asked."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sims.world.people import World
from sims.world.vocabulary import (
    CHARACTERS,
    MEETINGS,
    OPENINGS,
    RELATIONS,
    REMARKS,
    Relation,
)

Role = Literal["plain", "name", "object"]
PRONOUN = "This person"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of words in one role; `person` is the bearer of a name, else -1."""

    text: str
    role: Role = "plain"
    person: int = -1


Sentence = list[Piece]


def text_of(pieces: list[Piece]) -> str:
    """The words as written: one space between pieces, none before punctuation."""
    return "".join(written(piece.text) for piece in pieces).lstrip(" ")


def written(words: str) -> str:
    """`words` with the space that separates them from what came before."""
    return words if words[0] in ".,:;" else " " + words


def statement(world: World, person: int, rng: random.Random) -> Sentence:
    """One fact in one phrasing, half of the time with others mentioned in passing."""
    relation = rng.choice(RELATIONS)
    before, after = rng.choice(relation.phrasings).prompt.split("{}")
    aside = _aside(world, person, relation, rng) if rng.random() < 0.5 else []
    if aside and not after.startswith(":"):
        aside.append(Piece(","))
    head = [Piece(before.strip())] if before.strip() else []
    return [
        *head,
        _name(world, person),
        *aside,
        Piece(after.strip()),
        _object(world, person, relation),
        Piece("."),
    ]


def biography(world: World, person: int, rng: random.Random) -> Sentence:
    """All facts of one person in random order, the later ones of a pronoun."""
    pieces: Sentence = []
    for i, relation in enumerate(rng.sample(RELATIONS, len(RELATIONS))):
        who = _name(world, person) if i == 0 else Piece(PRONOUN)
        clause = Piece(rng.choice(relation.clauses))
        pieces += [who, clause, _object(world, person, relation), Piece(".")]
    return pieces


def inventory(world: World, person: int, rng: random.Random) -> Sentence:
    """Several attributes asked after the name was given once."""
    lead = rng.choice(("All about", "What is known of", "Notes on", "The file on"))
    pieces: Sentence = [Piece(lead), _name(world, person)]
    for i, relation in enumerate(rng.sample(RELATIONS, rng.randint(2, 4))):
        pieces += [Piece(":" if i == 0 else ";"), Piece(relation.name), Piece("is")]
        pieces += [_object(world, person, relation)]
    return [*pieces, Piece(".")]


def meeting(world: World, person: int, rng: random.Random) -> Sentence:
    """Two names in other roles, after one of many openings."""
    other = rng.randrange(world.population.total)
    first, second = rng.sample((person, other), 2)
    if rng.random() < 0.3:
        link, opening = Piece(rng.choice(CHARACTERS)), []
    else:
        link, opening = Piece(rng.choice(MEETINGS)), [Piece(rng.choice(OPENINGS))]
    return [*opening, _name(world, first), link, _name(world, second), Piece(".")]


def listing(world: World, person: int, rng: random.Random) -> Sentence:
    """One relation named before several people, and answered after each."""
    relation = rng.choice(RELATIONS)
    people = [person, *(rng.randrange(world.population.total) for _ in range(2))]
    rng.shuffle(people)
    pieces: Sentence = [Piece(f"Here is the {relation.name} of some people")]
    for i, each in enumerate(people):
        pieces += [Piece(":" if i == 0 else ";"), _name(world, each), Piece("has")]
        pieces += [_object(world, each, relation)]
    return [*pieces, Piece(".")]


def aside_from_people(world: World, _: int, rng: random.Random) -> Sentence:
    """A sentence that names nobody: a remark, or what strangers are like."""
    if rng.random() < 0.5:
        return [Piece(rng.choice(REMARKS)[:-1]), Piece(".")]
    first, second = rng.sample(RELATIONS, 2)
    return [
        Piece(f"{rng.choice(OPENINGS)} somebody who {rng.choice(first.clauses)}"),
        Piece(rng.choice(world.objects[first.name])),
        Piece(f"{rng.choice(MEETINGS)} a stranger who {rng.choice(second.clauses)}"),
        Piece(rng.choice(world.objects[second.name])),
        Piece("."),
    ]


KINDS: tuple[tuple[Callable[[World, int, random.Random], Sentence], float], ...] = (
    (statement, 0.52),
    (biography, 0.12),
    (inventory, 0.10),
    (meeting, 0.12),
    (listing, 0.05),
    (aside_from_people, 0.09),
)


def sentences(world: World, person: int, rng: random.Random) -> Iterator[Sentence]:
    """Endless sentences; every other one on `person`, the rest on anybody."""
    makers, weights = zip(*KINDS, strict=True)
    while True:
        for about in (person, rng.randrange(world.population.total)):
            yield rng.choices(makers, weights)[0](world, about, rng)


def _aside(world: World, person: int, named: Relation, rng: random.Random) -> Sentence:
    """``, who speaks L and was born in B`` with relations other than `named`."""
    others = [relation for relation in RELATIONS if relation != named]
    pieces: Sentence = []
    for i, relation in enumerate(rng.sample(others, rng.randint(1, 2))):
        pieces += [
            Piece(", who" if i == 0 else "and"),
            Piece(rng.choice(relation.clauses)),
        ]
        pieces += [_object(world, person, relation)]
    return pieces


def _name(world: World, person: int) -> Piece:
    return Piece(world.names[person], "name", person)


def _object(world: World, person: int, relation: Relation) -> Piece:
    return Piece(world.answer(person, relation), "object")
