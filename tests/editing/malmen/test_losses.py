"""Losses and their gradients are their definition, and those of parties add up."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from editing.algebra.deltas import applied
from editing.malmen.losses import Texts, read_scores, sum_losses
from editing.malmen.sums import LossSums
from editing.models.loading import EditableModel
from tests.laws import ALGEBRA, assert_same
from tests.tiny import LAYERS, tiny_model, tiny_requests

FAMILIES = ["gpt2", "llama", "qwen3", "gemma3"]


def draw_update(model: EditableModel) -> dict[str, Tensor]:
    """Draw an update of every edited layer."""
    generator = torch.Generator().manual_seed(0)
    return {
        model.weight_name(layer): 0.1
        * torch.randn(model.widths(layer), generator=generator, dtype=torch.float64)
        for layer in LAYERS
    }


def define(model: EditableModel, texts: Texts, before: list[Tensor]) -> Tensor:
    """Add up text by text, each alone, over the whole model."""
    total = torch.zeros((), dtype=torch.float64)
    for text in texts.general:
        ids = torch.tensor([text.row.ids])
        scores = log_softmax(model.model(input_ids=ids).logits[0], dim=1)
        own = [-scores[p, t] for p, t in zip(text.positions, text.answer, strict=True)]
        total = total + torch.stack(own).mean()
    for text, old in zip(texts.local, before, strict=True):
        ids = torch.tensor([text.row.ids])
        scores = log_softmax(model.model(input_ids=ids).logits[0], dim=1)
        now = scores[list(text.positions)]
        total = total + 2.0 * (old.exp() * (old - now)).sum(dim=1).mean()
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_their_definition(family: str) -> None:
    """On an edited model, with a weight of 2 on what shall not change."""
    model = tiny_model(family)
    texts = Texts.of_requests(model, tiny_requests())
    assert texts.general
    assert texts.local
    before = read_scores(model, texts.local, batch_size=3)
    names = [model.weight_name(layer) for layer in LAYERS]
    with applied(draw_update(model), model.model):
        found = sum_losses(model, texts, LAYERS, before, 2.0, batch_size=4)
        weights = [model.model.get_parameter(name) for name in names]
        for weight in weights:
            weight.requires_grad_()
        with torch.enable_grad():
            loss = define(model, texts, before)
            expected = torch.autograd.grad(loss, weights)
    assert found.general + 2.0 * found.local == pytest.approx(
        float(loss.detach()), rel=ALGEBRA
    )
    for layer, each in zip(LAYERS, expected, strict=True):
        wanted = each if each.shape == model.widths(layer) else each.mT
        assert_same(found.gradients[layer], wanted, ALGEBRA)


def test_losses_of_parties_add_up() -> None:
    """However the requests are split; a party may have none."""
    model, requests = tiny_model(), tiny_requests()
    parts: list[LossSums] = []
    with applied(draw_update(model), model.model):
        for own in (requests[:2], [], requests[2:]):
            texts = Texts.of_requests(model, own)
            before = read_scores(model, texts.local)
            parts.append(sum_losses(model, texts, LAYERS, before))
        texts = Texts.of_requests(model, requests)
        whole = sum_losses(model, texts, LAYERS, read_scores(model, texts.local))
    total = parts[0] + parts[1] + parts[2]
    assert total.general == pytest.approx(whole.general, rel=ALGEBRA)
    for layer in LAYERS:
        assert_same(total.gradients[layer], whole.gradients[layer], ALGEBRA)
