"""Draw what is edited first, and what later rounds ask for instead."""

import random
from collections.abc import Iterator, Sequence
from itertools import count, islice

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from sims.studies.pools import Fact, fact_of, facts_by_subject

SAME, OTHER = "same", "other"
NOISES = {
    SAME: "later requests about the same subjects",
    OTHER: "later requests about other subjects",
}


def draw_rounds(
    pool: Sequence[EditRequest], sizes: Sequence[int], seed: int
) -> dict[str, list[list[EditRequest]]]:
    """Draw the targets of the first round and later rounds of each kind of noise.

    Subjects with several facts are preferred as targets, so that later rounds have
    another object for them. A kind that the pool is too small for is left out.

    Raises:
        InputError: If the pool is too small for every kind.
    """
    draw, first, later = random.Random(seed), sizes[0], sum(sizes[1:])
    subjects = facts_by_subject(pool, draw)
    several = [facts for facts in subjects if len(facts) > 1]
    chosen = (several if len(several) >= first else subjects)[:first]
    taken = {facts[0].subject for facts in chosen}
    rest = [facts for facts in subjects if facts[0].subject not in taken]
    noises = {
        SAME: again_and_again([facts[1:] for facts in chosen], pool, draw),
        OTHER: one_by_one(rest),
    }
    listed = {noise: list(islice(asked, later)) for noise, asked in noises.items()}
    whole = {noise: asked for noise, asked in listed.items() if len(asked) == later}
    if len(chosen) < first or not whole:
        raise InputError(
            f"The study wants {first} requests for the first round and {later} for "
            f"later ones, and the pool has {len(pool)} about {len(subjects)} subjects. "
            "Name a larger pool with `requests.source`, or lower "
            "`parties.requests-per-round` or `run.rounds`."
        )
    targets = [facts[0] for facts in chosen]
    return {noise: cut([*targets, *asked], sizes) for noise, asked in whole.items()}


def cut(
    requests: Sequence[EditRequest], sizes: Sequence[int]
) -> list[list[EditRequest]]:
    """Cut requests into rounds."""
    rest = iter(requests)
    return [list(islice(rest, size)) for size in sizes]


def again_and_again(
    facts: Sequence[Sequence[EditRequest]],
    pool: Sequence[EditRequest],
    draw: random.Random,
) -> Iterator[EditRequest]:
    """Go round the subjects, changing a fact of each; changed ones once more.

    A fact that was changed before is given yet another object that the pool knows for
    its relation; where none is left, or a subject has no fact, the requests end.
    """
    objects: dict[str, set[str]] = {}
    for request in pool:
        known = objects.setdefault(fact_of(request).relation, set())
        known |= objects_of(request)
    asked: dict[Fact, set[str]] = {}
    for turn in count():
        for own in facts:
            if not own:
                return
            request = own[turn % len(own)]
            before = asked.setdefault(fact_of(request), set())
            if before:
                left = sorted(objects[fact_of(request).relation] - before)
                if not left:
                    return
                request = request.model_copy(update={"target_new": draw.choice(left)})
            before |= objects_of(request)
            yield request


def objects_of(request: EditRequest) -> set[str]:
    """The objects that a request names."""
    return {request.target_new, request.target_true or request.target_new}


def one_by_one(subjects: Sequence[Sequence[EditRequest]]) -> Iterator[EditRequest]:
    """Give one fact of every subject, then a second one of those that have it."""
    for place in range(max(map(len, subjects), default=0)):
        yield from (facts[place] for facts in subjects if place < len(facts))
