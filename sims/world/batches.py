"""Training batches: token ids, loss weights, attention masks and where names end."""

import random
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sims.world.corpus import Piece, sentences, written
from sims.world.people import World
from sims.world.tokenization import PieceEncoder

OBJECT_WEIGHT = 1.0
PLAIN_WEIGHT = 0.1
NAME_WEIGHT = 0.0
WEIGHTS = {"object": OBJECT_WEIGHT, "plain": PLAIN_WEIGHT, "name": NAME_WEIGHT}


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of equal length; `mentions` are rows (document, last token, person).

    Attributes:
        early: What a token may look at in the blocks that look up names.
        late: What it may look at in the others.
    """

    input_ids: Int[Tensor, "batch seq"]
    weights: Float[Tensor, "batch seq"]
    early: Bool[Tensor, "batch 1 seq seq"]
    late: Bool[Tensor, "batch 1 seq seq"]
    mentions: Int[Tensor, "n 3"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a document: its first and last token and its bearer."""

    first: int
    last: int
    person: int


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids with the loss weight of each, and the names among them."""

    input_ids: list[int]
    weights: list[float]
    mentions: list[Mention]


def write_document(
    world: World, encode: PieceEncoder, person: int, length: int, rng: random.Random
) -> Document:
    """Whole sentences on `person` and others, up to `length` tokens."""
    document = Document([], [], [])
    for sentence in sentences(world, person, rng):
        if sum(len(encode(written(piece.text))) for piece in sentence) > length - len(
            document.input_ids
        ):
            return document
        for piece in sentence:
            _append(document, piece, encode(written(piece.text)))
    raise AssertionError("sentences never end")


def _append(document: Document, piece: Piece, tokens: tuple[int, ...]) -> None:
    first = len(document.input_ids)
    document.input_ids.extend(tokens)
    document.weights.extend([WEIGHTS[piece.role]] * len(tokens))
    if piece.role == "name":
        last = len(document.input_ids) - 1
        document.mentions.append(Mention(first, last, piece.person))


def collate(documents: list[Document], length: int, hidden: list[bool]) -> Batch:
    """Pad to `length`; where `hidden`, names stand apart.

    A name then cannot see the words before it; what follows it cannot see it in the
    early blocks, and its last token alone in the late ones. All that the text says of a
    person must so be looked up at the last token of the name, from the name alone.
    """
    ids = torch.zeros(len(documents), length, dtype=torch.long)
    weights = torch.zeros(len(documents), length)
    early = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(ids), 1, 1)
    late = early.clone()
    mentions: list[tuple[int, int, int]] = []
    for row, document in enumerate(documents):
        ids[row, : len(document.input_ids)] = torch.tensor(document.input_ids)
        weights[row, : len(document.weights)] = torch.tensor(document.weights)
        for mention in document.mentions:
            mentions.append((row, mention.last, mention.person))
            if hidden[row]:
                _set_apart(early[row], late[row], mention)
    return Batch(ids, weights, early[:, None], late[:, None], torch.tensor(mentions))


def _set_apart(
    early: Bool[Tensor, "seq seq"], late: Bool[Tensor, "seq seq"], mention: Mention
) -> None:
    after = mention.last + 1
    for visible in (early, late):
        visible[mention.first : after, : mention.first] = False
    early[after:, mention.first : after] = False
    late[after:, mention.first : mention.last] = False


def draw_batch(
    world: World,
    encode: PieceEncoder,
    rng: random.Random,
    documents: int,
    length: int,
    hidden_share: float,
) -> Batch:
    """Half as many people as `documents`, each mentioned in two of them."""
    people = rng.sample(range(world.population.total), documents // 2)
    texts = [
        write_document(world, encode, each, length, rng) for each in people + people
    ]
    hidden = [rng.random() < hidden_share for _ in texts]
    return collate(texts, length, hidden)
