"""MALMEN's settings, what it solves, and whole edits against their definition."""

from math import exp
from pathlib import Path

import pytest
import torch
from torch import Tensor

from editing.algebra.deltas import add_deltas, applied
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.answers.gradients import read_answers
from editing.answers.pairs import AnswerPairs
from editing.answers.pipeline import AnswerState, edit_answers
from editing.editors.malmen import MalmenEditor
from editing.editors.system import LayerState
from editing.malmen.files import FILE, save_hypernetwork
from editing.malmen.hypernetwork import Hypernetwork, HypernetworkShape
from editing.malmen.rule import complete
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from tests.hypernetworks import draw_hypernetwork
from tests.laws import ALGEBRA, D_IN, assert_same, draw_pairs
from tests.tiny import LAYERS, tiny_model, tiny_requests

FAMILIES = ("gpt2", "llama", "qwen3", "gemma3")
BARE = EditRequest(case_id=1, prompt="who lives in Rome ?", target_new="Ada of Lima .")
ROUNDS = ([*tiny_requests(3), BARE], [tiny_requests()[3]])


def draw_net(model: EditableModel) -> Hypernetwork:
    """Draw a hypernetwork for a tiny model."""
    ((d_out, d_in),) = {model.widths(layer) for layer in LAYERS}
    shape = HypernetworkShape(layers=LAYERS, d_in=d_in, d_out=d_out, rank=3)
    return draw_hypernetwork(shape, rate=0.02, dtype=torch.float32)


def define(net: Hypernetwork, layer: int, own: AnswerPairs) -> Tensor:
    """Make values row by row, and invert what is solved."""
    place = net.shape.layers.index(layer)
    tensors = {name: each.double() for name, each in net.tensors.items()}
    values = []
    for key, gradient in zip(own.keys, own.gradients, strict=True):
        x = (torch.cat([key, gradient]) - tensors["mean"]) / tensors["scale"]
        for block in range(net.shape.blocks):
            inner = tensors[f"{block}.down"] @ x + tensors[f"{block}.bias"]
            added = tensors[f"{block}.up"] @ torch.clamp(inner, min=0)
            x = x + tensors[f"{block}.scale"][place] * added
            x = x + tensors[f"{block}.shift"][place]
        along = torch.dot(key, x[: len(key)])
        values.append(-tensors["rates"][place].exp() * along * x[len(key) :])
    gram = torch.eye(net.shape.d_in).double() * exp(tensors["ridges"][place])
    cross = torch.zeros(net.shape.d_out, net.shape.d_in, dtype=torch.float64)
    for key, value in zip(own.keys, values, strict=True):
        gram = gram + torch.outer(key, key)
        cross = cross + torch.outer(value, key)
    delta: Tensor = cross @ torch.linalg.inv(gram)
    return delta


@pytest.mark.parametrize("family", FAMILIES)
def test_edits_are_their_definition(tmp_path: Path, family: str) -> None:
    """Over two rounds, the second on the model as the first left it, in each family."""
    model = tiny_model(family)
    net = draw_net(model)
    save_hypernetwork(net, tmp_path / FILE)
    widths = {layer: model.widths(layer) for layer in LAYERS}
    rule = complete(MalmenEditor().answers, str(tmp_path), widths)
    state: AnswerState | None = None
    wanted: dict[str, Tensor] = {}
    for requests in ROUNDS:
        place = str(tmp_path)
        state = edit_answers(model, requests, LAYERS, rule, state, model_path=place)
        with applied(wanted, model.model):
            read = [read_answers(model, [each], LAYERS) for each in requests]
        solved = {}
        for layer in LAYERS:
            keys = torch.cat([each[layer].keys for each in read])
            gradients = torch.cat([each[layer].gradients for each in read])
            own = define(net, layer, AnswerPairs(keys, gradients))
            solved[model.weight_name(layer)] = own
        wanted = add_deltas(wanted, solved)
    assert state is not None
    for name, each in wanted.items():
        assert_same(state.delta[name], each, ALGEBRA)
        assert each.norm() > 1e-3


def test_the_delta_is_a_ridge_regression_with_the_layers_prior() -> None:
    """Whatever an earlier round has written."""
    keys, values = draw_pairs(9)
    prior = Prior(torch.eye(D_IN, dtype=torch.float64), 0.7)
    state = LayerState(prior, torch.ones(values.shape[1], D_IN, dtype=torch.float64))
    found = MalmenEditor().system(state).solve(LayerStatistics.of_pairs(keys, values))
    ridge = 0.7 * torch.eye(D_IN, dtype=torch.float64)
    assert_same(found, values.mT @ keys @ torch.linalg.inv(keys.mT @ keys + ridge))


def test_the_file_of_the_model_s_folder_is_the_default() -> None:
    """And any other can be named."""
    assert MalmenEditor().answers.source == "embedded"
    assert MalmenEditor(hypernetwork="/net").answers.source == "/net"
