"""Laws of faster modules: what a module computes stays, and so does the module."""

import math
from contextlib import suppress

import pytest
import torch
from torch import Tensor
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation

from editing.memit.search.faster_modules import (
    PIECE,
    fast_gelu,
    feed_forward_at,
    tanh_gelu,
)
from tests.laws import assert_same
from tests.tiny import tiny_model

ROUNDING = 1e-12
CUT = 1e-6
"""Relative to published activations, which write fewer digits of a constant."""


def by_definition(x: Tensor) -> Tensor:
    """The formula."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + torch.tanh(inner))


@pytest.mark.parametrize("size", [(3, 5), (2, PIECE), (1, PIECE + 7)])
def test_values_and_derivatives_are_those_of_the_definition(
    size: tuple[int, int],
) -> None:
    """In pieces or not, near zero and far from it."""
    generator = torch.Generator().manual_seed(0)
    drawn = 5 * torch.randn(size, generator=generator, dtype=torch.float64)
    results = []
    for function in (tanh_gelu, by_definition):
        states = drawn.clone().requires_grad_()
        values = function(states)
        (gradient,) = torch.autograd.grad((values * drawn).sum(), states)
        results.append((values.detach(), gradient))
    assert_same(results[0][0], results[1][0], ROUNDING)
    assert_same(results[0][1], results[1][1], ROUNDING)
    assert torch.equal(tanh_gelu(drawn), results[0][0])


def test_far_from_zero_it_is_finite() -> None:
    """0 on one side and the value itself on the other."""
    states = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4]).requires_grad_()
    values = tanh_gelu(states)
    values.sum().backward()
    assert torch.equal(values.detach(), states.detach().clamp(min=0))
    assert states.grad is not None
    assert states.grad.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_left_to_torch(dtype: torch.dtype) -> None:
    """Which computes it in single precision."""
    states = torch.linspace(-90, 90, 50).to(dtype)
    expected = torch.nn.functional.gelu(states, approximate="tanh")
    assert torch.equal(tanh_gelu(states), expected)


@pytest.mark.parametrize("kind", [NewGELUActivation, FastGELUActivation, GELUTanh])
def test_every_replaced_activation_is_that_function(kind: type) -> None:
    """As the library writes it."""
    states = torch.linspace(-6, 6, 101, dtype=torch.float64)
    assert_same(tanh_gelu(states), kind()(states), CUT)


def test_a_model_has_its_own_activations_back() -> None:
    """Also after a failure."""
    model = tiny_model()
    activations = [
        each for each in model.model.modules() if isinstance(each, NewGELUActivation)
    ]
    assert activations
    with fast_gelu(model):
        assert all(each.forward is tanh_gelu for each in activations)
    with suppress(ZeroDivisionError), fast_gelu(model):
        _ = 1 / 0
    assert not any("forward" in vars(each) for each in activations)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj", "opt"])
def test_a_block_says_at_its_places_what_it_says_everywhere(family: str) -> None:
    """Where the feed-forward part is a module of its own, and where it is not."""
    model = tiny_model(family)
    ids = torch.randint(5, 30, (3, 6), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([17, 2, 9])
    block, seen = model.block(model.block_count - 1), []

    def keep(_: object, __: object, output: object) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])  # type: ignore[index]

    handle = block.register_forward_hook(keep)
    model.model(input_ids=ids)
    with feed_forward_at(model, model.block_count - 1, places):
        model.model(input_ids=ids)
    model.model(input_ids=ids)
    handle.remove()
    whole, some, again = (each.reshape(18, -1) for each in seen)
    assert_same(some[places], whole[places], 1e-5)
    assert torch.equal(again, whole)
