"""How a made-up world's model is made: every number of its training, in one value."""

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from editing.base.errors import InputError
from editing.base.settings import Settings


class Recipe(Settings):
    """Shape, text and optimisation of a model; the defaults make the embedded one.

    Attributes:
        vocabulary: Tokens of the tokenizer, bytes included.
        context: Longest input in tokens.
        key_width: Width of the MLP, which is how much an edit can hold.
        documents: Documents a step; two of them mention the same person.
        document_length: Tokens a document may have in training.
        lookup_blocks: Blocks, from the first, that look up what is known of a name.
        hidden_share: Share of documents in which names stand apart: see
            `sims.world.batches.collate`.
        consistent_blocks: Blocks, from the first, whose keys at a name are pulled
            together over the contexts in which it stands.
        consistency_weight: Weight of that pull.
        probe_weight: Weight of the probe that reads all attributes of a person off
            the last token of the name, after the blocks that look names up.
        final_rate: The learning rate at the end, as a share of its peak.
        text_documents: Documents of the text that is kept next to the weights, which
            covariances are averaged over.
    """

    vocabulary: PositiveInt = 1200
    context: PositiveInt = 128
    width: PositiveInt = 128
    blocks: PositiveInt = 5
    heads: PositiveInt = 4
    key_width: PositiveInt = 1536
    people_editable: PositiveInt = 160
    people_neighbors: PositiveInt = 96
    people_bystanders: PositiveInt = 20
    given_names: PositiveInt = 40
    last_names: PositiveInt = 80
    steps: PositiveInt = 1000
    warmup_steps: PositiveInt = 50
    documents: PositiveInt = 32
    document_length: PositiveInt = 64
    learning_rate: PositiveFloat = 2e-3
    final_rate: PositiveFloat = 0.02
    weight_decay: NonNegativeFloat = 0.01
    gradient_norm: PositiveFloat = 1.0
    lookup_blocks: PositiveInt = 2
    hidden_share: float = Field(default=0.75, ge=0, le=1)
    consistent_blocks: PositiveInt = 2
    consistency_weight: NonNegativeFloat = 0.05
    probe_weight: NonNegativeFloat = 0.5
    text_documents: PositiveInt = 700


LARGER = Recipe(
    vocabulary=2000,
    width=160,
    blocks=4,
    key_width=3072,
    people_editable=700,
    people_neighbors=250,
    people_bystanders=50,
    given_names=80,
    last_names=200,
    steps=2200,
    warmup_steps=100,
    consistency_weight=0.1,
    text_documents=2000,
)
"""1,000 people. The vocabulary holds every word of a name: where names end in pieces of
words, which many names share, edits cost more neighbours (docs/studies.md)."""

RECIPES = {"embedded": Recipe(), "larger": LARGER}
"""Recipes by the name of the model that they make."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a model.

    Raises:
        InputError: If no model has this name.
    """
    if name not in RECIPES:
        known = ", ".join(RECIPES)
        raise InputError(f"No recipe is called {name!r}; there are {known}.")
    return RECIPES[name]
