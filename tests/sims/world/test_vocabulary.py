"""Laws of relations and invented words."""

import random

from sims.world.people import DIRECTIONS
from sims.world.vocabulary import RELATIONS, distinct_words


def test_relations_are_asked_in_both_directions_and_at_every_place() -> None:
    """The subject is first, in the middle and last."""
    assert len(RELATIONS) >= 5
    for relation in RELATIONS:
        assert len({each.prompt for each in relation.phrasings}) >= 5
        for direction in DIRECTIONS:
            assert len(relation.phrasings_of(direction)) >= 3
        ends = [each.prompt.rstrip(":").endswith("{}") for each in relation.phrasings]
        assert any(ends)


def test_invented_words_differ_and_are_those_of_the_seed() -> None:
    """Words are drawn, not found."""
    words = distinct_words(random.Random(5), 200, (2, 3))
    assert len(set(words)) == 200
    assert words == distinct_words(random.Random(5), 200, (2, 3))
    assert all(word.istitle() for word in words)
