"""The text of the world."""

import random
from itertools import islice

from sims.world.corpus import KINDS, Piece, sentences, text_of
from sims.world.people import build_world
from sims.world.vocabulary import RELATIONS


def test_words_are_apart_and_punctuation_is_not() -> None:
    """Pieces join as a typist would join them."""
    pieces = [Piece("The employer of"), Piece("Ada"), Piece(", who speaks"), Piece(".")]
    assert text_of(pieces) == "The employer of Ada, who speaks."


def test_every_object_that_follows_a_name_is_true_of_someone_named() -> None:
    """The text never lies."""
    world, rng = build_world(0), random.Random(0)
    for _ in range(300):
        pieces = next(sentences(world, rng.randrange(world.population.total), rng))
        named = {piece.person for piece in pieces if piece.role == "name"}
        known = {world.answer(person, each) for person in named for each in RELATIONS}
        assert {piece.text for piece in pieces if piece.role == "object"} <= known


def test_every_other_sentence_may_be_on_the_person_asked_for() -> None:
    """A document is about its person, but for sentences on nobody."""
    world, rng = build_world(0), random.Random(0)
    found = list(islice(sentences(world, 5, rng), 400))[::2]
    about = [any(piece.person == 5 for piece in sentence) for sentence in found]
    nameless = dict(KINDS)
    assert sum(about) / len(about) > 0.8
    assert abs(sum(nameless.values()) - 1) < 1e-9
