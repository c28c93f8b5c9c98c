"""Documents in batches, and what their tokens may look at."""

import random

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from editing.sources.embedded import locate_embedded
from sims.world.batches import Document, Mention, collate, draw_batch, write_document
from sims.world.people import World, build_world
from sims.world.tokenization import PieceEncoder


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


def test_mentions_end_where_names_end(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The states that training reads are those of the names."""
    encode, rng = PieceEncoder(tokenizer), random.Random(0)
    document = write_document(world, encode, 3, 64, rng)
    assert len(document.input_ids) == len(document.weights) <= 64
    assert document.mentions
    for mention in document.mentions:
        ids = document.input_ids[mention.first : mention.last + 1]
        assert str(tokenizer.decode(ids)) == f" {world.names[mention.person]}"


def test_a_name_that_stands_apart_sees_itself_alone_and_shows_its_last_token() -> None:
    """What follows a name must look it up at one place, the last one."""
    document = Document(list(range(6)), [0.1] * 6, [Mention(2, 3, 0)])
    apart, usual = (collate([document], 6, [hidden]) for hidden in (True, False))
    assert usual.early.equal(usual.late)
    assert usual.early[0, 0].sum() == 21
    assert apart.early[0, 0, 3].tolist() == [False, False, True, True, False, False]
    assert apart.early[0, 0, 5].tolist() == [True, True, False, False, True, True]
    assert apart.late[0, 0, 5].tolist() == [True, True, False, True, True, True]
    assert apart.late[0, 0, 1].tolist() == [True, True, False, False, False, False]


def test_a_batch_names_people_twice(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A contrast needs two mentions; names are too random to be predicted."""
    encode, rng = PieceEncoder(tokenizer), random.Random(0)
    batch = draw_batch(world, encode, rng, documents=8, length=64, hidden_share=0.5)
    assert batch.input_ids.shape == batch.weights.shape == (8, 64)
    _, counts = batch.mentions[:, 2].unique(return_counts=True)
    assert int((counts > 1).sum()) >= 4
    names_weigh = batch.weights[batch.mentions[:, 0], batch.mentions[:, 1]]
    assert not names_weigh.any()
