"""Pairs of requests that contradict each other, and who asks for them when."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from editing.base.errors import InputError
from editing.requests.conflicts import ConflictPair, conflicting, read_conflicts
from editing.requests.edit_request import EditRequest
from editing.requests.normalise import normalise
from server.config import RunConfig
from sims.studies.noise import objects_of
from sims.studies.pools import fact_of, facts_by_subject
from sims.studies.study import Party, Round

SAME, NEXT = "same round", "next round"
ORDERS = (SAME, NEXT)
"""Whether B is requested in the same round as A, or one round later."""

FEWEST_PARTIES = 3
"""With fewer, no majority is against who came first."""

OTHERS = 5
"""How many requests each party has that nobody contradicts."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Facts that are asked for in two ways, and what else is asked.

    Attributes:
        pairs: One a fact; what is `right` is A, and what is `conflicting` B.
        others: Requests of each party that meet no other one.
        spare: Further pairs, on other subjects.
    """

    pairs: tuple[ConflictPair, ...]
    others: tuple[Party, ...]
    spare: tuple[ConflictPair, ...] = ()

    @property
    def a(self) -> Party:
        """What is asked for first."""
        return tuple(pair.right for pair in self.pairs)

    @property
    def b(self) -> Party:
        """What is asked for against it."""
        return tuple(pair.conflicting for pair in self.pairs)

    @property
    def sides(self) -> list[tuple[Party, Party]]:
        """What each party asks for on the facts in conflict, and what else."""
        first, *others = self.others
        return [(self.a, first), *((self.b, own) for own in others)]

    @property
    def evaluated(self) -> Mapping[str, Party]:
        """Both sides, whichever of them is edited."""
        return {"A": self.a, "B": self.b}


def draw_contest(
    pool: Sequence[EditRequest],
    config: RunConfig,
    seed: int,
    listed: Path | None = None,
) -> Contest:
    """Draw as many facts as the first party has requests, all of distinct subjects.

    Args:
        pool: Gives the objects that facts are contradicted by, and all other requests.
        config: Says how many parties and facts there are.
        seed: Draws all of it.
        listed: A file of ConflictEdit's form that the pairs are taken from instead.

    Raises:
        InputError: If there are too few parties, or the pool or the file is too small.
    """
    parties, wanted = config.parties.count, config.parties.sizes_of(1)[0]
    if parties < FEWEST_PARTIES or not wanted:
        raise InputError(
            f"The study wants `parties.count` of {FEWEST_PARTIES} or more and a first "
            f"party with requests; got {parties} parties, the first with {wanted}."
        )
    draw = random.Random(seed)
    subjects = facts_by_subject(pool, draw)
    drawn = list(find_pairs(subjects, pool, draw) if listed is None else read(listed))
    if listed is not None:
        draw.shuffle(drawn)
    taken = {pair.right.subject for pair in drawn[:wanted]}
    free = [facts[0] for facts in subjects if facts[0].subject not in taken]
    rest = iter(free)
    others = tuple(tuple(islice(rest, OTHERS)) for _ in range(parties))
    if len(drawn) < wanted or len(free) < parties * OTHERS:
        raise InputError(
            f"The study wants {wanted} facts to contradict and {parties * OTHERS} "
            f"requests about other subjects; {listed or 'the pool'} has {len(drawn)} "
            f"such facts, and the pool {len(free)} further subjects. Name a larger "
            "pool with `requests.source`, or lower `parties.requests-per-round`."
        )
    spoken_for = {each.subject for own in others for each in own}
    spare = [each for each in drawn[wanted:] if each.right.subject not in spoken_for]
    return Contest(tuple(drawn[:wanted]), others, tuple(spare))


def find_pairs(
    subjects: Sequence[Sequence[EditRequest]],
    pool: Sequence[EditRequest],
    draw: random.Random,
) -> Iterator[ConflictPair]:
    """Contradict one fact of each subject by another object that its relation has."""
    objects: dict[str, set[str]] = {}
    for request in pool:
        objects.setdefault(fact_of(request).relation, set()).update(objects_of(request))
    for facts in subjects:
        for request in facts:
            named = {normalise(each) for each in objects_of(request)}
            known = sorted(objects[fact_of(request).relation])
            left = [each for each in known if normalise(each) not in named]
            if left:
                target = draw.choice(left)
                opposite = conflicting(request, target, request.case_id)
                yield ConflictPair(request, opposite)
                break


def read(path: Path) -> Iterator[ConflictPair]:
    """Read the pairs of a file, one a subject; those that agree are no conflict."""
    subjects: set[str] = set()
    for pair in read_conflicts(path):
        if pair.contradicts and pair.right.subject not in subjects:
            subjects.add(pair.right.subject)
            yield pair


def bare(requests: Party, config: RunConfig) -> Party:
    """Leave out the evaluation prompts of requests that are evaluated elsewhere.

    Paraphrases stay where they are edited too (`requests.phrasings`).
    """
    dropped = ["neighborhood_prompts", "attribute_prompts", "generation_prompts"]
    if not config.requests.phrasings:
        dropped.append("paraphrase_prompts")
    nothing: dict[str, tuple[str, ...]] = dict.fromkeys(dropped, ())
    return tuple(each.model_copy(update=nothing) for each in requests)


def arrange(
    first: Sequence[Party], against: Sequence[Party], order: str
) -> tuple[Round, ...]:
    """Put what parties ask for into one round, or what is against it into the next.

    Args:
        first: What each party asks for at once.
        against: What each party requests in the same round, or one round later.
        order: A word of `ORDERS`.
    """
    if order == NEXT:
        return tuple(first), tuple(against)
    pairs = zip(first, against, strict=True)
    return (tuple((*own, *more) for own, more in pairs),)
