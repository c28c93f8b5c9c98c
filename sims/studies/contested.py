"""Contested facts: what is asked for, and the wordings that edit and evaluate it."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from editing.base.errors import InputError
from editing.requests.conflicts import ConflictPair, conflicting
from editing.requests.edit_request import EditRequest
from editing.requests.normalise import normalise
from editing.requests.paraphrases import phrase
from sims.studies.pools import fact_of

MOST_PHRASINGS = 4
"""Largest number of further phrasings that the winner's request is edited in."""


@dataclass(frozen=True, slots=True)
class ContestedFact:
    """Two requests for one fact, and its wordings besides their prompt.

    Attributes:
        pair: What shall win, and what is edited first.
        phrasings: Prompts that the winner's request may be sent with.
        held_out: Texts that are never edited, only evaluated by.
    """

    pair: ConflictPair
    phrasings: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def loser(self) -> EditRequest:
        """The conflicting request, bare: a run can phrase it no further."""
        return bare(self.pair.conflicting)

    @property
    def winner(self) -> EditRequest:
        """The right request, whose only paraphrases are those that may be edited."""
        subject = self.pair.right.subject
        texts = tuple(prompt.replace("{}", subject) for prompt in self.phrasings)
        return bare(self.pair.right).model_copy(update={"paraphrase_prompts": texts})

    @property
    def evaluated(self) -> EditRequest:
        """The right object against the conflicting one, prompt and held-out wording."""
        changes = {
            "target_true": self.pair.conflicting.target_new,
            "paraphrase_prompts": self.held_out,
        }
        return bare(self.pair.right).model_copy(update=changes)

    @property
    def surroundings(self) -> EditRequest:
        """The neighbourhood, by what was true before either edit."""
        return self.pair.right.model_copy(update={"paraphrase_prompts": ()})


def pair_up(pool: Sequence[EditRequest], seed: int) -> list[ConflictPair]:
    """Take the pool's pairs, or contradict each of its requests.

    A pool of pairs has both sides of each one after the other, as ConflictEdit's files
    are read. Else the conflicting object is another that the pool knows for the
    relation; a request for which it knows none is left out.
    """
    sides = list(zip(pool[::2], pool[1::2], strict=False))
    if len(pool) % 2 == 0 and all(opposed(*pair) for pair in sides):
        return [ConflictPair(*pair) for pair in sides]
    return list(plant(pool, random.Random(seed)))


def opposed(first: EditRequest, second: EditRequest) -> bool:
    """Whether two requests ask for one fact, each against what the other asks for."""
    return (
        fact_of(first) == fact_of(second)
        and first.target_true == second.target_new
        and second.target_true == first.target_new
    )


def plant(pool: Sequence[EditRequest], draw: random.Random) -> Iterator[ConflictPair]:
    """Contradict each request by an object that is neither asked for nor true."""
    known: dict[str, set[str]] = {}
    for request in pool:
        objects = known.setdefault(fact_of(request).relation, set())
        objects |= {request.target_new, request.target_true or request.target_new}
    for request in pool:
        own = {normalise(request.target_new), normalise(request.target_true or "")}
        objects = known[fact_of(request).relation]
        others = sorted(each for each in objects if normalise(each) not in own)
        if others:
            opposite = conflicting(request, draw.choice(others), request.case_id)
            yield ConflictPair(request, opposite)


def draw_contests(
    pairs: Sequence[ConflictPair],
    pool: Sequence[EditRequest],
    templates: Mapping[str, Sequence[str]] | None,
    wanted: int,
    seed: int,
) -> list[ContestedFact]:
    """Draw contests of distinct subjects, those with most phrasings first.

    Raises:
        InputError: If too few of the pairs contradict and can be phrased further.
    """
    order = [pair for pair in pairs if pair.contradicts]
    random.Random(seed).shuffle(order)
    found = word_contests(order, pool, templates)
    phrased = [each for each in found if each.phrasings]
    phrased.sort(key=lambda each: -min(len(each.phrasings), MOST_PHRASINGS))
    drawn: dict[str, ContestedFact] = {}
    for contest in phrased:
        drawn.setdefault(contest.pair.right.subject, contest)
    if len(drawn) < wanted:
        raise InputError(
            f"The study wants {wanted} contested facts of distinct subjects, and the "
            f"pool has {len(drawn)}: of {len(pairs)} pairs of requests, {len(order)} "
            f"contradict, and {len(phrased)} of these have further phrasings. Lower "
            "`parties.requests-per-round`, name a larger pool with `requests.source`, "
            "or give phrasings by --templates."
        )
    return list(drawn.values())[:wanted]


def word_contests(
    pairs: Sequence[ConflictPair],
    pool: Sequence[EditRequest],
    templates: Mapping[str, Sequence[str]] | None,
) -> Iterator[ContestedFact]:
    """Share the wordings of each fact out among those edited and those held out.

    With templates, they are what is edited, and all paraphrases are held out but for
    those among them. Without, a fact's wordings are its own paraphrases and then the
    prompts by which the pool asks for its relation, and the last of several is held
    out.
    """
    relations: dict[str, list[str]] = {}
    for request in pool:
        if request.relation_id is not None:
            relations.setdefault(request.relation_id, []).append(request.prompt)
    for pair in pairs:
        own = other_prompts(pair.right)
        if templates is not None:
            edited = other_prompts(pair.right, templates)
            texts = {prompt.replace("{}", pair.right.subject) for prompt in edited}
            kept = [t for t in pair.right.paraphrase_prompts if t not in texts]
            yield ContestedFact(pair, edited, tuple(kept))
            continue
        known = tuple(dict.fromkeys([*own, *other_prompts(pair.right, relations)]))
        edited = known[:-1] or known
        last = [each.replace("{}", pair.right.subject) for each in known[len(edited) :]]
        yield ContestedFact(pair, edited, tuple(last))


def other_prompts(
    request: EditRequest, templates: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """All prompts that a request can be phrased by besides its own."""
    listed = len(request.paraphrase_prompts)
    if templates is not None:
        listed = sum(map(len, templates.values()))
    return tuple(each.prompt for each in phrase(request, listed, templates)[1:])


def bare(request: EditRequest) -> EditRequest:
    """Drop all prompts but the one that is edited."""
    names = ("paraphrase", "neighborhood", "attribute", "generation")
    return request.model_copy(update={f"{name}_prompts": () for name in names})
