"""Laws of the world's tokenizer."""

import random
from collections import Counter
from itertools import islice

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from editing.sources.embedded import locate_embedded
from sims.world.corpus import sentences, text_of, written
from sims.world.people import World, build_world
from sims.world.tokenization import PieceEncoder, train_tokenizer
from sims.world.vocabulary import RELATIONS


@pytest.fixture(scope="module")
def world() -> World:
    """The world of seed 0."""
    return build_world(0)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """The committed tokenizer."""
    found = AutoTokenizer.from_pretrained(str(locate_embedded()))
    assert isinstance(found, PreTrainedTokenizerFast)
    return found


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text."""
    return list(tokenizer(text)["input_ids"])


def test_pieces_encode_to_the_tokens_of_the_whole_text(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Names are found in the text without offsets."""
    rng, encode = random.Random(0), PieceEncoder(tokenizer)
    for _ in range(200):
        found = islice(sentences(world, rng.randrange(100), rng), 3)
        pieces = [piece for sentence in found for piece in sentence]
        ids = [token for piece in pieces for token in encode(written(piece.text))]
        assert ids == ids_of(tokenizer, text_of(pieces))


def test_prompt_and_answer_encode_to_the_tokens_of_their_concatenation(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A target can be appended as tokens."""
    for person in range(0, world.population.total, 7):
        for relation in RELATIONS:
            answer = f" {world.answer(person, relation)}"
            for phrasing in relation.phrasings:
                prompt = phrasing.prompt.format(world.names[person])
                apart = ids_of(tokenizer, prompt) + ids_of(tokenizer, answer)
                assert apart == ids_of(tokenizer, prompt + answer)


def test_names_and_objects_are_of_one_token_and_of_several(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Editing must find the last token of either."""
    objects = [each for group in world.objects.values() for each in group]
    for texts in (world.names, objects):
        sizes = Counter(len(ids_of(tokenizer, f" {text}")) > 1 for text in texts)
        assert min(sizes[True], sizes[False]) >= 15


def test_a_text_starts_with_no_added_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """No BOS; and every byte can be written."""
    assert tokenizer.bos_token_id not in ids_of(tokenizer, "The weather was fine.")
    assert str(tokenizer.decode(ids_of(tokenizer, "Élan, 1 €"))) == " Élan, 1 €"


def test_a_word_has_the_same_tokens_at_the_start_of_a_text() -> None:
    """A name has one key wherever it stands."""
    trained = train_tokenizer(["Zusul met Zusul."] * 9, vocabulary=300, context=16)
    first, *_ = ids_of(trained, "Zusul met Zusul")
    assert ids_of(trained, "met Zusul")[-1] == first
    assert len(ids_of(trained, "Zusul")) == 1
    assert trained.model_max_length == 16
