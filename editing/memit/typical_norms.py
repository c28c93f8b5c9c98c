"""How long a model's keys and hidden states are, measured without anybody's text.

The texts are the context templates, which every run has, with a few words in their
place for the subject. What parties send is held to these norms, times a large number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from editing.models.activations import read_activations
from editing.models.loading import EditableModel
from editing.models.token_rows import BARE, TokenRow, tokenize_text

WORDS = "This is a text about the old town and its people"
"""Stands where a template has its subject."""


@dataclass(frozen=True, slots=True)
class KeyNorms:
    """Squared norms ``‖k‖²`` of one layer's keys over the tokens of the texts.

    Attributes:
        median: Over tokens of the text itself, which is what half of them exceed.
        mean: Over all tokens, those included that the tokenizer put in front.
    """

    median: float
    mean: float


@dataclass(frozen=True, slots=True)
class TypicalNorms:
    """What a model's own norms are.

    Attributes:
        keys: Of the keys, by layer.
        hidden: Largest ``‖h‖`` of a token after the last of the layers.
    """

    keys: Mapping[int, KeyNorms]
    hidden: float


def measure_norms(
    model: EditableModel, templates: Sequence[str], layers: Sequence[int]
) -> TypicalNorms:
    """Read the norms of a model's keys and hidden states at every token of some texts.

    Args:
        model: The unedited model.
        templates: Context templates, the bare one included.
        layers: The edited blocks, in ascending order.
    """
    rows: list[TokenRow] = []
    own: list[bool] = []
    for template in templates:
        text = template.replace(BARE, WORDS)
        ids = tokenize_text(model.tokenizer, text).ids[: model.longest_input]
        added = model.tokenizer(text, return_special_tokens_mask=True)
        rows += [TokenRow(ids[: place + 1], place) for place in range(len(ids))]
        own += [not each for each in added["special_tokens_mask"][: len(ids)]]
    found = read_activations(model, rows, layers, layers[-1:])
    chosen = torch.tensor(own) if any(own) else torch.ones(len(rows), dtype=torch.bool)
    squares = {layer: _squares(keys) for layer, keys in found.keys.items()}
    hidden = _squares(found.hidden[layers[-1]])[chosen].max().sqrt().item()
    return TypicalNorms(
        {
            layer: KeyNorms(each[chosen].median().item(), each.mean().item())
            for layer, each in squares.items()
        },
        hidden,
    )


def _squares(states: Float[Tensor, "n width"]) -> Float[Tensor, " n"]:
    return states.cpu().double().square().sum(dim=1)
