"""A training step by parties is the step of one machine, and that is its definition."""

from collections.abc import Mapping

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from editing.algebra.statistics import pool
from editing.answers.moments import Moments
from editing.answers.pairs import AnswerPairs
from editing.malmen.hypernetwork import RIDGES, Hypernetwork, HypernetworkShape
from editing.malmen.training import (
    Adam,
    add_gradients,
    differentiate,
    ridge_gradients,
    solve,
)
from tests.laws import ALGEBRA, assert_same

SHAPE = HypernetworkShape(layers=(0, 2), d_in=5, d_out=3, rank=2, blocks=2)
SEEDS = st.integers(0, 2**16)
Pairs = dict[int, AnswerPairs]


def draw_pairs(rows: int, seed: int) -> Pairs:
    """Draw keys and gradients of both layers."""
    generator = torch.Generator().manual_seed(seed)

    def draw(width: int) -> Tensor:
        return torch.randn(rows, width, generator=generator, dtype=torch.float64)

    return {layer: AnswerPairs(draw(5), draw(3)) for layer in SHAPE.layers}


def draw_net(seed: int) -> Hypernetwork:
    """Draw a hypernetwork as if it had been trained."""
    generator = torch.Generator().manual_seed(seed + 7)
    moments = Moments.of_pairs(draw_pairs(9, seed)[0])
    net = Hypernetwork.fresh(SHAPE, moments, generator, 0.1, torch.float64)
    noise = {
        name: each
        + 0.1 * torch.randn(each.shape, generator=generator, dtype=torch.float64)
        for name, each in net.tensors.items()
        if name in {*net.trained, RIDGES}
    }
    return net.with_tensors(noise)


def loss_of(weights: Mapping[int, Tensor], seed: int) -> Tensor:
    """Evaluate some smooth loss of both layers' updates."""
    generator = torch.Generator().manual_seed(seed + 3)
    total = torch.zeros((), dtype=torch.float64)
    for weight in weights.values():
        probe = torch.randn(5, 4, generator=generator, dtype=torch.float64)
        total = total + (weight @ probe).tanh().square().sum()
    return total


def split(pairs: Pairs, sizes: list[int]) -> list[Pairs]:
    """Give each party some of the rows."""
    keys = {k: own.keys.split(sizes) for k, own in pairs.items()}
    gradients = {k: own.gradients.split(sizes) for k, own in pairs.items()}
    return [
        {k: AnswerPairs(keys[k][n], gradients[k][n]) for k in pairs}
        for n in range(len(sizes))
    ]


def step_by_parties(
    net: Hypernetwork, parts: list[Pairs], seed: int
) -> dict[str, Tensor]:
    """Exchange three sums."""
    sent = [net.statistics(part) for part in parts]
    solved = solve(net, {k: pool([each[k] for each in sent]) for k in SHAPE.layers})
    deltas = {k: each.delta.clone().requires_grad_() for k, each in solved.items()}
    with torch.enable_grad():
        found = torch.autograd.grad(loss_of(deltas, seed), list(deltas.values()))
    pulled = {k: solved[k].pull_back(g) for k, g in zip(deltas, found, strict=True)}
    weights = {k: each for k, (each, _) in pulled.items()}
    total = add_gradients(differentiate(net, part, weights) for part in parts)
    return total | ridge_gradients(net, {k: each for k, (_, each) in pulled.items()})


def step_by_definition(net: Hypernetwork, pairs: Pairs, seed: int) -> dict[str, Tensor]:
    """Differentiate through the solve, inverse and all."""
    names = [*net.trained, RIDGES]
    leaves = {name: net.tensors[name].clone().requires_grad_() for name in names}
    with torch.enable_grad():
        deltas = {}
        for place, layer in enumerate(SHAPE.layers):
            own = pairs[layer]
            values = net.values(layer, own, {**net.tensors, **leaves})
            system = own.keys.mT @ own.keys
            system = system + leaves[RIDGES][place].exp() * torch.eye(5).double()
            deltas[layer] = values.mT @ own.keys @ system.inverse()
        found = torch.autograd.grad(loss_of(deltas, seed), list(leaves.values()))
    return dict(zip(names, found, strict=True))


@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4), seed=SEEDS)
def test_parties_make_the_step_of_one_machine(sizes: list[int], seed: int) -> None:
    """However the rows are split; a party may have none."""
    pairs, net = draw_pairs(sum(sizes) + 1, seed), draw_net(seed)
    found = step_by_parties(net, split(pairs, [*sizes, 1]), seed)
    expected = step_by_definition(net, pairs, seed)
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert_same(found[name], each, ALGEBRA)


@given(seed=SEEDS)
def test_values_are_their_definition(seed: int) -> None:
    """Row by row; before training, of standardised keys and gradients alone."""
    pairs, net = draw_pairs(4, seed), draw_net(seed)
    own, place = pairs[2], 1
    tensors = net.tensors
    for row, value in zip(range(4), net.values(2, own), strict=True):
        key, gradient = own.keys[row], own.gradients[row]
        state = (torch.cat([key, gradient]) - tensors["mean"]) / tensors["scale"]
        for block in range(SHAPE.blocks):
            inner = tensors[f"{block}.down"] @ state + tensors[f"{block}.bias"]
            added = tensors[f"{block}.up"] @ inner.clamp(min=0)
            state = state + tensors[f"{block}.scale"][place] * added
            state = state + tensors[f"{block}.shift"][place]
        rate = tensors["rates"][place].exp()
        assert_same(value, -rate * (key @ state[:5]) * state[5:], ALGEBRA)
    moments = Moments.of_pairs(pairs[0])
    fresh = Hypernetwork.fresh(SHAPE, moments, torch.Generator().manual_seed(seed))
    wide = fresh.with_tensors({k: v.double() for k, v in fresh.tensors.items()})
    rows = torch.cat([pairs[0].keys, pairs[0].gradients], dim=1)
    state = (rows - wide.tensors["mean"]) / wide.tensors["scale"]
    along = (pairs[0].keys * state[:, :5]).sum(dim=1, keepdim=True)
    assert_same(wide.values(0, pairs[0]), -1e-3 * along * state[:, 5:], 1e-6)


def test_adam_is_torch_s() -> None:
    """Step by step, with gradients below the clip."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    theirs = start.clone().requires_grad_()
    torch_adam, ours = torch.optim.Adam([theirs], lr=0.1), Adam(0.1, clip=1e9)
    tensors = {"a": start}
    for _ in range(5):
        gradient = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        theirs.grad = gradient.clone()
        torch_adam.step()
        tensors = ours.step(tensors, {"a": gradient})
        assert_same(tensors["a"], theirs.detach(), 1e-12)


def test_long_gradients_are_clipped_together() -> None:
    """All of them by one factor, so that their norm is the bound."""
    long = {"a": torch.full((4,), 3.0).double(), "b": torch.full((7,), 2.0).double()}
    norm = (4 * 9 + 7 * 4) ** 0.5
    clipped = {name: each / norm for name, each in long.items()}
    start = {name: torch.zeros_like(each) for name, each in long.items()}
    by_clip, by_hand = Adam(0.1, clip=1.0), Adam(0.1, clip=1e9)
    for second in (0.0, 0.01):
        extra = {name: torch.full_like(each, second) for name, each in long.items()}
        first = long if second == 0.0 else extra
        other = clipped if second == 0.0 else extra
        found, expected = by_clip.step(start, first), by_hand.step(start, other)
        for name in long:
            assert_same(found[name], expected[name], 1e-12)
