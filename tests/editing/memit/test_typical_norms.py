"""A model's own norms are what they are by the definition, and honest text is near."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from editing.covariance.covariance import compute_covariance
from editing.memit.residuals import read_hidden
from editing.memit.typical_norms import WORDS, measure_norms
from editing.models.activations import read_activations
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, tokenize_text
from tests.federation import TEXT
from tests.tiny import LAYERS, TEMPLATES, tiny_model, tiny_requests

FAMILIES = ("gpt2", "gptj", "llama")


def squares_of(
    model: EditableModel, layer: int, *, begin: int
) -> tuple[list[float], list[float]]:
    """Squared norms of keys at one layer and of hidden states, a token at a time."""
    keys, hidden = [], []
    for template in TEMPLATES:
        ids = tokenize_text(model.tokenizer, template.replace("{}", WORDS)).ids
        for end in range(1 + begin, 1 + len(ids)):
            row = TokenRow(ids[:end], end - 1)
            found = read_activations(model, [row], [layer], [LAYERS[-1]])
            keys.append(float(found.keys[layer][0].double().square().sum()))
            hidden.append(float(found.hidden[LAYERS[-1]][0].double().square().sum()))
    return keys, hidden


@pytest.mark.training
@pytest.mark.parametrize("family", FAMILIES)
def test_norms_are_those_of_every_token_of_the_texts(family: str) -> None:
    """The definition, without batches."""
    model = tiny_model(family)
    found = measure_norms(model, TEMPLATES, LAYERS)
    assert tuple(found.keys) == LAYERS
    for layer in LAYERS:
        keys, hidden = squares_of(model, layer, begin=0)
        assert found.keys[layer].mean == pytest.approx(sum(keys) / len(keys))
        lower = sorted(keys)[(len(keys) - 1) // 2]
        assert found.keys[layer].median == pytest.approx(lower)
        assert found.hidden == pytest.approx(max(hidden) ** 0.5)


def test_what_a_tokenizer_puts_in_front_is_no_word() -> None:
    """Its hidden state may be longer than all others, and no subject is there."""
    model = tiny_model("llama")
    number = model.tokenizer.convert_tokens_to_ids("?")
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="? $A", special_tokens=[("?", number)]
    )
    with torch.no_grad():
        dict(model.model.named_parameters())["model.embed_tokens.weight"][number] *= 100
    found = measure_norms(model, TEMPLATES, LAYERS)
    own, _ = squares_of(model, 1, begin=1)
    everything, hidden = squares_of(model, 1, begin=0)
    assert found.keys[1].median == pytest.approx(sorted(own)[(len(own) - 1) // 2])
    assert found.keys[1].mean == pytest.approx(sum(everything) / len(everything))
    assert found.hidden < max(hidden) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_honest_text_and_edits_are_within_a_few_times_of_them(
    family: str, dtype: torch.dtype
) -> None:
    """The bounds of a run are a hundred times that far, and more."""
    model = tiny_model(family, dtype=dtype)
    found = measure_norms(model, TEMPLATES, LAYERS)
    counted = compute_covariance(model, TEXT, LAYERS, "text")
    for layer, moment in counted.moments.items():
        mean = float(moment.trace())
        assert found.keys[layer].median / 5 < mean < 5 * found.keys[layer].mean
    hidden = read_hidden(model, tiny_requests(), LAYERS[-1]).norm(dim=1)
    assert float(hidden.max()) < 5 * found.hidden
