"""Laws of keys: half the bare prompt's, half the mean after the contexts."""

import pytest
import torch

from editing.base.errors import InputError
from editing.memit.keys import contexts_of, extract_keys
from editing.models.token_rows import tokenize_prompt
from tests.editing.models.test_activations import ROUNDING, naive_reading
from tests.laws import assert_same
from tests.tiny import (
    LAYERS,
    TEMPLATES,
    tiny_model,
    tiny_model_of_tuples,
    tiny_requests,
)

MODEL = tiny_model()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("templates", [TEMPLATES, TEMPLATES[::-1], TEMPLATES[:2]])
def test_a_key_is_half_bare_and_half_the_mean_of_contexts(
    layer: int, templates: tuple[str, ...]
) -> None:
    """``k = ½ (k_bare + mean over templates of k_template)``, one text at a time."""
    requests = tiny_requests()
    keys = extract_keys(MODEL, requests, templates, [layer])[layer]
    for request, key in zip(requests, keys, strict=True):
        by_template = {
            template: naive_reading(
                MODEL,
                tokenize_prompt(
                    MODEL.tokenizer, template, request.prompt, request.subject
                ),
                layer,
            )[0]
            for template in templates
        }
        bare = by_template.pop("{}")
        expected = (bare + sum(by_template.values()) / len(by_template)) / 2
        assert_same(key, expected, ROUNDING)


def test_the_bare_template_alone_gives_the_bare_key() -> None:
    """There is no mean of nothing."""
    requests = tiny_requests()
    keys = extract_keys(MODEL, requests, ["{}"], LAYERS)
    none = extract_keys(MODEL, requests, [], LAYERS)
    with_contexts = extract_keys(MODEL, requests, TEMPLATES, LAYERS)
    for layer in LAYERS:
        assert torch.equal(keys[layer], none[layer])
        assert not torch.allclose(keys[layer], with_contexts[layer])


def test_a_key_does_not_depend_on_other_requests() -> None:
    """Rows are in the order of requests, and padding reaches no row."""
    requests = tiny_requests()
    together = extract_keys(MODEL, requests, TEMPLATES, LAYERS)
    for index, request in enumerate(requests):
        alone = extract_keys(MODEL, [request], TEMPLATES, LAYERS)
        for layer in LAYERS:
            assert_same(together[layer][index], alone[layer][0], ROUNDING)


def test_blocks_may_return_tuples() -> None:
    """The same keys."""
    requests = tiny_requests()
    plain = extract_keys(MODEL, requests, TEMPLATES, LAYERS)
    tuples = extract_keys(tiny_model_of_tuples(), requests, TEMPLATES, LAYERS)
    for layer in LAYERS:
        assert_same(tuples[layer], plain[layer], ROUNDING)


def test_keys_of_a_single_precision_model_are_doubled_after_averaging() -> None:
    """One cast at the border, and averages as the published program takes them."""
    model = tiny_model(dtype=torch.float32)
    keys = extract_keys(model, tiny_requests(), TEMPLATES, LAYERS)
    for layer in LAYERS:
        assert keys[layer].dtype == torch.float64
        assert torch.equal(keys[layer], keys[layer].float().double())


def test_contexts_are_the_templates_that_add_something() -> None:
    """In their order."""
    assert contexts_of(["a {}", "{}", "{} b"]) == ["a {}", "{} b"]


def test_a_prompt_after_a_context_must_fit_the_model() -> None:
    """Though it fits without."""
    long = " ".join(["the"] * 61) + " {}"
    extract_keys(MODEL, tiny_requests(1), ["{}"], LAYERS)
    with pytest.raises(InputError, match=r"Request 10: .* reads 64"):
        extract_keys(MODEL, tiny_requests(1), ["{}", long], LAYERS)
