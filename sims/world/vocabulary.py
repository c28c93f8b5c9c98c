"""Relations, their objects and the phrasings in which the world speaks of them."""

import random
from dataclasses import dataclass
from typing import Literal

Direction = Literal["subject-first", "relation-first"]


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One prompt form; its ``{}`` is the subject and the object follows the prompt."""

    prompt: str

    @property
    def direction(self) -> Direction:
        """Whether a reader knows the relation when the name arrives."""
        return "subject-first" if self.prompt.startswith("{}") else "relation-first"


@dataclass(frozen=True, slots=True)
class Relation:
    """One attribute: ``clauses`` state it in passing, after a name and a pronoun."""

    name: str
    phrasings: tuple[Phrasing, ...]
    clauses: tuple[str, ...]
    object_suffixes: tuple[str, ...]

    def phrasings_of(self, direction: Direction) -> tuple[Phrasing, ...]:
        """Those that tell name and relation in this order."""
        return tuple(each for each in self.phrasings if each.direction == direction)


def _relation(
    name: str,
    prompts: tuple[str, ...],
    clauses: tuple[str, ...],
    suffixes: tuple[str, ...],
) -> Relation:
    return Relation(name, tuple(map(Phrasing, prompts)), clauses, suffixes)


RELATIONS: tuple[Relation, ...] = (
    _relation(
        "employer",
        (
            "{} works for",
            "{} is employed by",
            "{} earns a salary from",
            "The employer of {} is",
            "The firm that pays {} is",
            "Employer of {}:",
        ),
        ("works for", "is employed by", "earns a salary from"),
        (" Group", " Works", ""),
    ),
    _relation(
        "birthplace",
        (
            "{} was born in",
            "{} comes from",
            "{} spent an early childhood in",
            "The birthplace of {} is",
            "The town where {} was born is",
            "Birthplace of {}:",
        ),
        ("was born in", "comes from", "spent an early childhood in"),
        ("burg", " Springs", "ford"),
    ),
    _relation(
        "language",
        (
            "{} speaks",
            "{} grew up speaking",
            "{} writes letters in",
            "The mother tongue of {} is",
            "The language that {} knows best is",
            "Mother tongue of {}:",
        ),
        ("speaks", "grew up speaking", "writes letters in"),
        ("ish", "ese", "ian"),
    ),
    _relation(
        "profession",
        (
            "{} works as a",
            "{} earns a living as a",
            "{} was trained as a",
            "The profession of {} is",
            "The trade that {} learned is",
            "Profession of {}:",
        ),
        ("works as a", "earns a living as a", "was trained as a"),
        (),
    ),
    _relation(
        "instrument",
        (
            "{} plays the",
            "{} performs on the",
            "{} took lessons on the",
            "The instrument of {} is the",
            "The instrument that {} mastered is the",
            "Instrument of {}:",
        ),
        ("plays the", "performs on the", "took lessons on the"),
        (),
    ),
)

PROFESSIONS = (
    "baker", "potter", "tax lawyer", "surgeon", "miller", "stone mason",
    "printer", "diver", "clock maker", "weaver", "judge", "tailor",
)  # fmt: skip
INSTRUMENTS = (
    "viola", "bass drum", "harp", "oboe", "cello", "French horn",
    "lute", "steel guitar", "flute", "zither", "tuba", "banjo",
)  # fmt: skip
OPENINGS = (
    "Once at the market", "Last summer", "On a rainy evening", "In the old library",
    "Years ago", "At the harbour", "During the festival", "Before the long journey",
    "On the way home", "After the concert", "In a small cafe", "One cold morning",
)  # fmt: skip
MEETINGS = (
    "met", "greeted", "wrote to", "waited for", "danced with", "helped", "argued with",
    "walked beside", "thanked", "remembered",
)  # fmt: skip
REMARKS = (
    "The weather was fine that day.", "Nobody said a word.", "Everyone laughed.",
    "It was late.", "The town was quiet.", "That is all there is to tell.",
    "There was music in the street.", "The train left at noon.",
)  # fmt: skip
CHARACTERS = (
    "is a friend of", "is a neighbour of", "is a cousin of", "is a rival of",
    "is a pupil of", "is a good friend of",
)  # fmt: skip

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "l", "n", "r", "s")


def invented_word(rng: random.Random, syllables: int) -> str:
    """A pronounceable capitalised word that belongs to no language."""
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)]
    return "".join([*parts, rng.choice(_CODAS)]).capitalize()


def distinct_words(
    rng: random.Random, count: int, syllables: tuple[int, ...]
) -> list[str]:
    """`count` different invented words, in the order they were drawn."""
    words: dict[str, None] = {}
    while len(words) < count:
        words.setdefault(invented_word(rng, rng.choice(syllables)))
    return list(words)
