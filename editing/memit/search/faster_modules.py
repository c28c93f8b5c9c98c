"""Parts of a model that a search for targets runs faster, with the same results.

A module is lent: it is as it was when the block is left.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers.activations import FastGELUActivation, GELUTanh, NewGELUActivation

from editing.models.loading import EditableModel

TANH_GELUS = (NewGELUActivation, FastGELUActivation, GELUTanh)
"""Activations that are ``x (1 + tanh u) / 2``, ``u = √(2/π) (x + 0.044715 x³)``."""

LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR

PIECE = 65_536
"""Numbers that are worked on at once, so that they stay in a core's own cache."""


@contextmanager
def fast_gelu(model: EditableModel) -> Iterator[None]:
    """Compute the tanh form of GELU in one go, in every module that is it."""
    found = [each for each in model.model.modules() if isinstance(each, TANH_GELUS)]
    for module in found:
        vars(module)["forward"] = tanh_gelu
    try:
        yield
    finally:
        for module in found:
            del vars(module)["forward"]


def tanh_gelu(states: Tensor) -> Tensor:
    """Compute ``x σ(2u)``, which is ``x (1 + tanh u) / 2``.

    On a CPU, torch's own takes twice as long; elsewhere, or in half precision, it is
    used.
    """
    if states.device.type != "cpu" or states.dtype not in (
        torch.float32,
        torch.float64,
    ):
        return gelu(states, approximate="tanh")
    if not (torch.is_grad_enabled() and states.requires_grad):
        return _activate(states)
    result: Tensor = _TanhGelu.apply(states)  # type: ignore[no-untyped-call]
    return result


class _TanhGelu(torch.autograd.Function):
    """Computes the derivative with the value, as both need the same sigmoid."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:  # noqa: ANN401 - torch has no type for it
        values, derivatives = _activate_with_derivatives(states)
        ctx.save_for_backward(derivatives)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        derivatives: Tensor = ctx.saved_tensors[0]
        return gradient * derivatives


def _activate(states: Tensor) -> Tensor:
    values = torch.empty_like(states, memory_format=torch.contiguous_format)
    for x, y in _pieces(states, values):
        torch.addcmul(_linear(x), x, x, value=CUBIC, out=y)
        y.mul_(x).sigmoid_().mul_(x)
    return values


def _activate_with_derivatives(states: Tensor) -> tuple[Tensor, Tensor]:
    """With ``w = 2u`` and ``s = σ(w)``, the derivative is ``s + (3w − 2ax) s (1 − s)``.

    ``a`` is the factor of ``x`` in ``w``.
    """
    values = torch.empty_like(states, memory_format=torch.contiguous_format)
    derivatives = torch.empty_like(values)
    for x, y, derivative in _pieces(states, values, derivatives):
        w = torch.addcmul(_linear(x), x, x, value=CUBIC).mul_(x)
        s = torch.sigmoid(w)
        torch.mul(x, s, out=y)
        w.sub_(x, alpha=2 / 3 * LINEAR)
        torch.ops.aten.sigmoid_backward.grad_input(w, s, grad_input=derivative)
        torch.add(s, derivative, alpha=3, out=derivative)
    return values, derivatives


def _linear(like: Tensor) -> Tensor:
    return like.new_tensor(LINEAR)


def _pieces(*tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(table.reshape(-1).split(PIECE) for table in tables), strict=True)


@contextmanager
def feed_forward_at(
    model: EditableModel, layer: int, places: Int[Tensor, " places"] | None
) -> Iterator[None]:
    """Run a block's feed-forward part at some positions; elsewhere it adds nothing.

    It works on each position by itself, so these come out as they would. Where the
    down-projection is in the block itself, all positions are run.

    Args:
        model: The model.
        layer: The block.
        places: Positions, as ``row · columns + column``; None is all of them.
    """
    name = model.architecture.down_projection.format(layer).rpartition(".")[0]
    if places is None or name == model.architecture.block.format(layer):
        yield
        return
    shape: list[int] = []

    def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states, *rest = args
        shape[:] = states.shape
        picked = states.flatten(0, -2).index_select(0, places.to(states.device))
        return (picked.unsqueeze(0), *rest)

    def spread(_: nn.Module, __: object, output: Tensor) -> Float[Tensor, "r c d"]:
        found = output.flatten(0, -2)
        empty = found.new_zeros(math.prod(shape[:-1]), found.shape[-1])
        whole = empty.index_copy(0, places.to(found.device), found)
        return whole.view(*shape[:-1], -1)

    module = model.model.get_submodule(name)
    before = module.register_forward_pre_hook(pick)
    after = module.register_forward_hook(spread)
    try:
        yield
    finally:
        before.remove()
        after.remove()
