"""Keys and gradients against the definition: one text at a time, the whole model."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from editing.answers.gradients import read_answers
from editing.answers.pairs import AnswerPairs
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from tests.laws import ALGEBRA, assert_same
from tests.tiny import LAYERS, tiny_model, tiny_requests

FAMILIES = ("gpt2", "llama", "qwen3", "gemma3_text", "opt")
REQUESTS = (
    *tiny_requests(),
    EditRequest(case_id=1, prompt="who lives in Rome ?", target_new="Ada of Lima ."),
)


def naive(model: EditableModel, request: EditRequest, layer: int) -> AnswerPairs:
    """Run one text through the whole model; add a shift to what the layer writes."""
    prompt, whole = (
        model.tokenizer(text)["input_ids"]
        for text in (
            request.rewrite_prompt,
            f"{request.rewrite_prompt} {request.target_new}",
        )
    )
    d_out, _ = model.widths(layer)
    shift = torch.zeros(len(whole), d_out, dtype=model.dtype, requires_grad=True)
    seen: list[Tensor] = []

    def add(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(given[0].detach().reshape(len(whole), -1))
        return output + shift.view_as(output)

    handle = model.down_projection(layer).register_forward_hook(add)
    scores = model.model(input_ids=torch.tensor([whole])).logits[0]
    handle.remove()
    places = slice(len(prompt) - 1, len(whole) - 1)
    answer = torch.tensor(whole[len(prompt) :])
    cross_entropy(scores[places], answer, reduction="sum").backward()
    assert shift.grad is not None
    return AnswerPairs(seen[0][places], shift.grad[places])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_the_definition(family: str) -> None:
    """In batches of several lengths; and a request's weight is a factor of its loss."""
    model = tiny_model(family)
    weights = [0.5 + number for number in range(len(REQUESTS))]
    for size, factors in ((3, None), (7, weights)):
        found = read_answers(model, REQUESTS, LAYERS, weights=factors, batch_size=size)
        for layer in LAYERS:
            each = [naive(model, request, layer) for request in REQUESTS]
            scales = factors or [1.0] * len(each)
            keys = torch.cat([own.keys for own in each])
            gradients = [s * own.gradients for s, own in zip(scales, each, strict=True)]
            assert_same(found[layer].keys, keys, ALGEBRA)
            assert_same(found[layer].gradients, torch.cat(gradients), ALGEBRA)


def test_no_request_gives_no_row() -> None:
    """Of the right widths, so that its moments add."""
    found = read_answers(tiny_model(), [], LAYERS)
    assert {k: each.keys.shape for k, each in found.items()} == dict.fromkeys(
        LAYERS, (0, 24)
    )
    assert found[LAYERS[0]].gradients.shape == (0, 16)


def test_the_model_is_left_as_it_was() -> None:
    """No hook stays, and no weight wants a gradient."""
    model = tiny_model()
    read_answers(model, REQUESTS, LAYERS)
    assert not any(each.requires_grad for each in model.model.parameters())
    assert not any(each._forward_hooks for each in model.model.modules())
