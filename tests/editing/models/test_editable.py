"""Laws of editable models: where their parts are, and how they are identified."""

from dataclasses import replace

import pytest
import torch

from editing.base.errors import InputError
from editing.evaluation.cases import evaluate_requests
from editing.models.editable import EditableModel, check_finite, check_weights_finite
from editing.models.families import ModelError
from tests.editing.models.test_activations import ROUNDING
from tests.laws import assert_same
from tests.tiny import (
    tiny_model,
    tiny_model_of_tuples,
    tiny_requests,
    tiny_tokenizer,
    with_linear_projections,
)

FAMILIES = ("gpt2", "gptj", "llama")
IDS = torch.tensor([[1, 5, 3, 9]])


def last_hidden(model: EditableModel) -> torch.Tensor:
    """Read what the last block gives."""
    seen: list[torch.Tensor] = []
    block = model.block(model.block_count - 1)
    handle = block.register_forward_hook(
        lambda _, __, out: seen.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    model.model(input_ids=IDS)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_says_what_the_model_says(family: str) -> None:
    """The norm and the head after the last block are the model's own."""
    model = tiny_model(family)
    assert_same(
        model.logits(last_hidden(model)), model.model(input_ids=IDS).logits, ROUNDING
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_to_edit_is_in_evaluation_and_keeps_no_gradients(family: str) -> None:
    """Dropout would change keys, and gradients cost memory."""
    model = tiny_model(family)
    assert not any(module.training for module in model.model.modules())
    assert not any(each.requires_grad for each in model.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_and_weights_are_counted_and_named(family: str) -> None:
    """Four blocks, and the edited parameter of each."""
    model = tiny_model(family)
    assert model.block_count == 4
    names = dict(model.model.named_parameters())
    for layer in range(4):
        weight = names[model.weight_name(layer)]
        assert weight is model.down_projection(layer).get_parameter("weight")


def test_blocks_inside_a_wrapper_are_counted() -> None:
    """The place of the number need not be the end of the name."""
    assert tiny_model_of_tuples().block_count == 4


@pytest.mark.parametrize("inner", [24, 16, 8])
def test_widths_depend_on_the_module_and_not_on_the_shape(inner: int) -> None:
    """Keys wider than, as wide as, and narrower than the hidden state."""
    conv = tiny_model(inner=inner)
    assert conv.widths(1) == (16, inner)
    assert conv.down_projection(1).get_parameter("weight").shape == (inner, 16)
    linear = with_linear_projections(tiny_model(inner=inner))
    assert linear.widths(1) == (16, inner)
    assert linear.down_projection(1).get_parameter("weight").shape == (16, inner)


@pytest.mark.parametrize("layers", [[0], [3], [0, 1, 2, 3]])
def test_layers_of_the_model_are_accepted(layers: list[int]) -> None:
    """The first and the last included."""
    tiny_model().check_layers(layers)


@pytest.mark.parametrize(("layers", "outside"), [([1, 4], "4"), ([-1], "-1")])
def test_layers_outside_the_model_are_refused(layers: list[int], outside: str) -> None:
    """The error names the blocks that exist."""
    with pytest.raises(InputError, match=rf"\[{outside}\] lie .* blocks 0 to 3"):
        tiny_model().check_layers(layers)


def test_the_fingerprint_changes_with_any_parameter() -> None:
    """And with nothing else: two loads of one model have the same."""
    first = tiny_model()
    assert tiny_model().fingerprint == first.fingerprint
    for name, parameter in first.model.named_parameters():
        saved = parameter.clone()
        parameter.view(-1)[-1] += 1e-9
        changed = EditableModel(first.model, first.tokenizer, first.architecture)
        assert changed.fingerprint != first.fingerprint, name
        parameter.copy_(saved)


def test_the_fingerprint_tells_the_precision() -> None:
    """Two parties that compute in different ones do not get equal keys."""
    half = tiny_model(dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.fingerprint != tiny_model(dtype=torch.float32).fingerprint


def test_the_tokenizer_has_a_fingerprint() -> None:
    """A word more is another tokenizer."""
    model = tiny_model()
    grown = tiny_tokenizer()
    grown.add_tokens(["Oviedo"])
    other = EditableModel(model.model, grown, model.architecture)
    assert tiny_model().tokenizer_fingerprint == model.tokenizer_fingerprint
    assert other.tokenizer_fingerprint != model.tokenizer_fingerprint


@pytest.mark.parametrize("family", ["gemma2", "cohere", "granite", "gptj"])
def test_scores_are_scaled_and_capped_as_the_family_does(family: str) -> None:
    """Without it they would be others: caps, scales, and a head's bias count."""
    model = tiny_model(family, torch.float32)
    plain = {"multiplier": None, "divisor": None, "soft_cap": None}
    straight = replace(model, architecture=model.architecture.model_copy(update=plain))
    if family == "gptj":
        straight.model.get_output_embeddings().bias = None
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    gap = (model.logits(hidden) - straight.logits(hidden)).norm()
    assert (gap > 0.1 * model.logits(hidden).norm()) == (family != "gptj")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_that_is_not_finite_is_refused(
    value: float, dtype: torch.dtype
) -> None:
    """By its name, when the weights are fingerprinted."""
    model = tiny_model(dtype=dtype)
    check_weights_finite(model.model)
    name = model.weight_name(1)
    model.model.get_parameter(name)[3, 2] = value
    with pytest.raises(ModelError, match=rf"The weight {name} .*NaN or infinite"):
        _ = model.fingerprint


def test_scores_that_are_not_finite_are_refused() -> None:
    """Every evaluation of such a model is, and no NaN gets into a case."""
    model = tiny_model(dtype=torch.float32)
    model.model.get_parameter(model.weight_name(1))[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"scores are not finite.*`model\.dtype`"):
        evaluate_requests(model, tiny_requests(2))
    check_finite(torch.tensor([1.0, -2.0]), "scores")
