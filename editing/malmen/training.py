"""A training step in three exchanges, each a sum over parties.

1. Statistics ``S = Σ k kᵀ``, ``B = Σ v kᵀ`` of the batch's edits; the server solves
   ``Δ = B A⁻¹`` with ``A = S + e^λ I``.
2. On the model with ``Δ``, the gradient ``G = ∂L/∂W`` of the losses. The server
   computes ``M = A⁻¹ Gᵀ`` and ``∂L/∂λ = −e^λ ⟨M, Δᵀ⟩``.
3. The gradient of ``Σ ⟨k M, v⟩`` by the hypernetwork's tensors, for
   ``dL = ⟨G, dB A⁻¹⟩ = Σ ⟨k M, dv⟩``.

So the step that parties make together is the step of one machine that holds all their
requests (MALMEN, arXiv 2311.04661, section 3.3, for one machine).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from editing.algebra.solving import IllConditionedError, divide, factorise
from editing.algebra.statistics import LayerStatistics
from editing.answers.pairs import AnswerPairs
from editing.malmen.hypernetwork import RIDGES, Hypernetwork

Gradients = Mapping[str, Tensor]
"""Gradients by the name of a tensor; those of two parties add up."""


@dataclass(frozen=True, slots=True)
class Solved:
    """What the server knows of a layer after the first exchange.

    Attributes:
        delta: ``Δ``.
        keys: Rows whose gram is ``S``, if they are few for their width; else None.
        factor: The Cholesky factor of ``K Kᵀ + e^λ I``, or of ``A`` without keys.
        ridge: ``e^λ``.
    """

    delta: Float[Tensor, "d_out d_in"]
    keys: Float[Tensor, "rows d_in"] | None
    factor: Float[Tensor, "d d"]
    ridge: float

    def pull_back(
        self, gradient: Float[Tensor, "d_out d_in"]
    ) -> tuple[Float[Tensor, "d_in d_out"], float]:
        """Return ``M`` and ``∂L/∂λ`` for ``G = ∂L/∂W``.

        Of few rows ``A`` is not formed:
        ``G A⁻¹ = (G − G Kᵀ (K Kᵀ + e^λ I)⁻¹ K) / e^λ``.
        """
        rows = gradient.double()
        if self.keys is None:
            divided = divide(rows, self.factor)
        else:
            along = divide(rows @ self.keys.mT, self.factor)
            divided = (rows - along @ self.keys) / self.ridge
        return divided.mT, -self.ridge * float((divided * self.delta).sum())


def solve(
    net: Hypernetwork, pooled: Mapping[int, LayerStatistics]
) -> dict[int, Solved]:
    """Solve each layer for the batch's update, in float64.

    A system that is not positive definite to rounding is an `IllConditionedError`.
    """
    places = {layer: place for place, layer in enumerate(net.shape.layers)}
    return {
        layer: _solve_layer(layer, own, float(net.tensors[RIDGES][places[layer]]))
        for layer, own in pooled.items()
    }


def _solve_layer(layer: int, statistics: LayerStatistics, ridge: float) -> Solved:
    """Solve the smaller of two systems, that of the rows or that of a key's entries.

    Raises:
        IllConditionedError: If it is not positive definite to rounding.
    """
    weight = math.exp(ridge)
    keys = statistics.keys if statistics.few else None
    width = statistics.keys.shape[1]
    gram = keys @ keys.mT if keys is not None else statistics.gram
    gram.diagonal().add_(weight)
    factor = factorise(gram) if len(gram) else gram
    if factor is None:
        raise IllConditionedError(
            f"Layer {layer}: the grams of the batch with the ridge {weight:.3g} are "
            f"not positive definite, {width} entries wide. Start again with a larger "
            "ridge or a lower learning rate."
        )
    if keys is None:
        delta = divide(statistics.cross, factor)
    else:
        delta = divide(statistics.residuals.mT, factor) @ keys
    return Solved(delta, keys, factor, weight)


def differentiate(
    net: Hypernetwork,
    pairs: Mapping[int, AnswerPairs],
    weights: Mapping[int, Float[Tensor, "d_in d_out"]],
) -> dict[str, Tensor]:
    """Compute the gradient of ``Σ ⟨k M, v⟩`` of one party's rows, by tensor.

    Args:
        net: The hypernetwork.
        pairs: The party's keys and gradients by layer; without rows if it has none.
        weights: ``M`` by layer.
    """
    names = net.trained
    leaves = {n: net.tensors[n].detach().clone().requires_grad_() for n in names}
    tensors = {**net.tensors, **leaves}
    total = torch.zeros((), dtype=net.tensors[RIDGES].dtype)
    with torch.enable_grad():
        for layer, own in pairs.items():
            along = (own.keys @ weights[layer]).to(total.dtype)
            total = total + (along * net.values(layer, own, tensors)).sum()
        found = torch.autograd.grad(
            total, list(leaves.values()), materialize_grads=True
        )
    return dict(zip(names, found, strict=True))


def add_gradients(parts: Iterable[Gradients]) -> dict[str, Tensor]:
    """Add gradients up in the order given."""
    total: dict[str, Tensor] = {}
    for part in parts:
        for name, each in part.items():
            total[name] = total[name] + each if name in total else each
    return total


@dataclass(slots=True)
class Adam:
    """Adam over named tensors (arXiv 1412.6980), the same wherever it runs.

    Attributes:
        rate: The learning rate.
        clip: The norm of all gradients together is brought down to it.
        steps: Steps so far.
        first: Running means of the gradients, by name.
        second: Running means of their squares.
    """

    rate: float
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    steps: int = 0
    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)

    def step(
        self, tensors: Mapping[str, Tensor], gradients: Gradients
    ) -> dict[str, Tensor]:
        """Return the tensors after a step."""
        self.steps += 1
        norm = torch.stack([g.double().norm() for g in gradients.values()]).norm()
        shrink = min(1.0, self.clip / max(float(norm), 1e-12))
        found = {}
        for name, gradient in gradients.items():
            found[name] = tensors[name] - self._move(name, shrink * gradient)
        return found

    def _move(self, name: str, gradient: Tensor) -> Tensor:
        first, second = self.betas
        zero = torch.zeros_like(gradient)
        mean = first * self.first.get(name, zero) + (1 - first) * gradient
        square = second * self.second.get(name, zero) + (1 - second) * gradient**2
        self.first[name], self.second[name] = mean, square
        corrected = mean / (1 - first**self.steps)
        spread = (square / (1 - second**self.steps)).sqrt() + self.epsilon
        return self.rate * corrected / spread


def ridge_gradients(net: Hypernetwork, found: Mapping[int, float]) -> dict[str, Tensor]:
    """Put the layers' ``∂L/∂λ`` next to the other gradients."""
    listed = [found[layer] for layer in net.shape.layers]
    return {RIDGES: torch.tensor(listed, dtype=net.tensors[RIDGES].dtype)}
