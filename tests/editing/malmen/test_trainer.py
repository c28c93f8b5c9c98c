"""Training by parties is training on their union, and a step is its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import log_softmax

from editing.answers.gradients import read_answers
from editing.answers.texts import AnswerText
from editing.base.errors import InputError
from editing.malmen.holders import Holder, choose_batch, train
from editing.malmen.hypernetwork import RIDGES, Hypernetwork
from editing.malmen.losses import Texts, read_scores
from editing.malmen.settings import TrainingSettings
from editing.malmen.trainer import Trainer, shape_for, start
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from tests.federation import world_requests
from tests.laws import ALGEBRA, assert_same
from tests.tiny import LAYERS, tiny_model

SETTINGS = TrainingSettings(
    steps=3, share=0.6, rate=0.05, value_rate=0.3, local_weight=0.5, rank=2
)
SPLITS = [(0, 12), (3, 0, 8, 1), (1,) * 12]
SEEDS = st.integers(0, 2**16)


def cut(requests: list[EditRequest], sizes: tuple[int, ...]) -> list[list[EditRequest]]:
    """Give each party some of the requests, in order."""
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return [requests[end - size : end] for end, size in zip(ends, sizes, strict=True)]


@pytest.fixture(scope="module")
def reference() -> Hypernetwork:
    """Train on one machine that holds all requests."""
    requests = [world_requests()]
    return train(tiny_model(), requests, LAYERS, SETTINGS, dtype=torch.float64)


@pytest.mark.parametrize("sizes", SPLITS)
def test_parties_train_the_hypernetwork_of_their_union(
    sizes: tuple[int, ...], reference: Hypernetwork
) -> None:
    """After three steps, whoever holds what; a party may hold nothing."""
    parties = cut(world_requests(), sizes)
    net = train(tiny_model(), parties, LAYERS, SETTINGS, dtype=torch.float64)
    for name, each in reference.tensors.items():
        assert_same(net.tensors[name], each, ALGEBRA)


def mean_loss(
    model: EditableModel, net: Hypernetwork, batch: list[EditRequest]
) -> tuple[dict[str, Tensor], Tensor]:
    """Define a step's loss: edit, then ask text by text, all of it differentiable."""
    leaves = {
        name: net.tensors[name].clone().requires_grad_()
        for name in [*net.trained, RIDGES]
    }
    tensors, weights = {**net.tensors, **leaves}, {}
    for place, layer in enumerate(LAYERS):
        pairs = read_answers(model, batch, LAYERS)[layer]
        system = pairs.keys.mT @ pairs.keys
        system = system + tensors[RIDGES][place].exp() * torch.eye(len(system)).double()
        values = net.values(layer, pairs, tensors)
        delta = values.mT @ pairs.keys @ system.inverse()
        name = model.weight_name(layer)
        weight = model.model.get_parameter(name)
        weights[name] = weight + (delta if delta.shape == weight.shape else delta.mT)

    def scores(text: AnswerText) -> Tensor:
        ids = {"input_ids": torch.tensor([text.row.ids])}
        found = functional_call(model.model, weights, (), ids).logits[0]
        return log_softmax(found, dim=1)[list(text.positions)]

    texts, total = Texts.of_requests(model, batch), torch.zeros(()).double()
    for text in texts.general:
        total = total - scores(text)[range(len(text.answer)), text.answer].mean()
    for text, old in zip(texts.local, read_scores(model, texts.local), strict=True):
        change = (old.exp() * (old - scores(text))).sum(dim=1).mean()
        total = total + SETTINGS.local_weight * change
    return leaves, total / (len(texts.general) + len(texts.local))


def test_a_step_s_gradients_are_those_of_the_whole_computation() -> None:
    """Through edit, solve and model, for every tensor and the ridges."""
    model, requests = tiny_model(), world_requests()
    holder = Holder(model, requests, LAYERS, SETTINGS)
    shape = shape_for({layer: model.widths(layer) for layer in LAYERS}, SETTINGS)
    trainer = Trainer(holder, SETTINGS, start(holder, shape, SETTINGS, torch.float64))
    trainer.step()  # so that no tensor is 0
    found, made = trainer.differentiate(1)
    batch = choose_batch(requests, SETTINGS, 1)
    with torch.enable_grad():
        leaves, loss = mean_loss(model, trainer.net, batch)
        expected = torch.autograd.grad(loss, list(leaves.values()))
    assert made.general + SETTINGS.local_weight * made.local == pytest.approx(
        float(loss.detach()), rel=ALGEBRA
    )
    assert found.keys() == leaves.keys()
    for name, each in zip(leaves, expected, strict=True):
        assert_same(found[name], each, ALGEBRA)


@given(cuts=st.lists(st.integers(0, 5), min_size=1, max_size=5), seed=SEEDS)
def test_a_batch_of_parties_is_that_of_their_union(cuts: list[int], seed: int) -> None:
    """Each request is chosen by itself, whatever its number and whoever holds it."""
    requests = world_requests()
    parties = [requests[sum(cuts[:n]) : sum(cuts[: n + 1])] for n in range(len(cuts))]
    union = [each for own in parties for each in own]
    renamed = [each.model_copy(update={"case_id": 0}) for each in union]
    settings = TrainingSettings(share=0.7, seed=seed)
    chosen = [r for own in parties for r in choose_batch(own, settings, 3)]
    assert chosen == choose_batch(union, settings, 3)
    again = choose_batch(renamed, settings, 3)
    assert [r.subject for r in again] == [r.subject for r in chosen]


def test_batches_differ_by_step_and_have_their_share() -> None:
    """Over many steps, each request is in as many batches as the share says."""
    requests, settings = world_requests(), TrainingSettings(share=0.5, seed=1)
    batches = [choose_batch(requests, settings, step) for step in range(400)]
    assert len({len(each) for each in batches}) > 5
    mean = 0.5 * (0.1 + 1) / 2
    share = sum(map(len, batches)) / (400 * len(requests))
    assert share == pytest.approx(mean, abs=0.03)
    for request in requests:
        assert 70 < sum(request in batch for batch in batches) < 150


def test_training_lowers_the_loss() -> None:
    """By the mean of some steps, for batches differ."""
    settings = TrainingSettings(steps=30, share=1.0, rate=0.05, value_rate=0.3)
    seen: list[float] = []
    train(
        tiny_model(),
        [world_requests()],
        LAYERS,
        settings,
        lambda made: seen.append(made.general + made.local),
    )
    assert len(seen) == 30
    assert sum(seen[-5:]) < 0.85 * sum(seen[:5])


def test_training_without_a_request_is_refused() -> None:
    """There is nothing to standardise by."""
    with pytest.raises(InputError, match="no request to train"):
        train(tiny_model(), [[], []], LAYERS, SETTINGS)


def test_layers_of_other_shapes_are_refused() -> None:
    """One hypernetwork serves them all."""
    with pytest.raises(InputError, match="one shape"):
        shape_for({1: (16, 24), 2: (16, 32)}, SETTINGS)
