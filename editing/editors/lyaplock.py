"""LyapLock: a queue of what edits have cost plain text weighs the next ones."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from editing.algebra.solving import Prior
from editing.editors.base import Editor
from editing.editors.system import LayerState, System

QUEUE, ALLOWED, VALUES = "queue", "allowed", "values"


class LyapLockEditor(Editor):
    """Solve ``delta = [VB + aZλ(W₀ − W)C₀ + V(M_v − WM)] [VS + aZλC₀ + VM]⁻¹``.

    The first round is MEMIT's. It sets the loss that is allowed, ``αD`` with ``D =
    tr((W − W₀) C₀ (W − W₀)ᵀ)`` after it, ``a = 1/√(αD)``, and a queue that begins at
    ``Z₀ = √(αD)``. After each round ``Z ← max(Z + a(loss − αD), Z₀)``. ``M_v = Σ W_t
    S_t`` are the values that rounds have reached; with updates ``D_t = W_t − W₀`` it is
    ``M_v − WM = Σ D_t S_t − (W − W₀)M``.

    Attributes:
        budget: ``α``, the loss that is allowed in units of the first round's.
        edit_weight: ``V``.
    """

    name: Literal["lyaplock"] = "lyaplock"
    budget: PositiveFloat = 60.0
    edit_weight: PositiveFloat = 1.0
    paper: ClassVar[str] = "arXiv:2505.15702"
    summary: ClassVar[str] = "hold the loss on plain text within a budget, by a queue"
    remembers: ClassVar[bool] = True

    @classmethod
    def most_kept(cls, d_out: int, d_in: int) -> int:
        """Return the numbers of ``M_v``, the queue and the loss that is allowed."""
        return d_out * d_in + 2

    def budget_in_use(self, kept: Mapping[str, Tensor]) -> float | None:
        """Return the queue, in per cent of where it begins."""
        if QUEUE not in kept:
            return None
        return 100 * (kept[QUEUE] / kept[ALLOWED].sqrt()).item()

    def system(self, state: LayerState) -> System:
        """Lay out MEMIT's system in the first round, and the queue's later."""
        if QUEUE not in state.kept or state.total is None:
            return System(state.prior)
        total, past = state.total, state.prior.past()
        weight = state.kept[QUEUE] / state.kept[ALLOWED].sqrt() * state.prior.weight
        text = (weight / self.edit_weight) * state.prior.text()
        cross = -total @ text
        if past is not None:
            cross += state.kept[VALUES] - total @ past
            text += past
        return System(Prior(text), cross=cross)

    def remember(
        self,
        state: LayerState,
        gram: Float[Tensor, "d_in d_in"],
        count: int,  # noqa: ARG002 - reads sums alone
        written: Float[Tensor, "d_out d_in"],
    ) -> Mapping[str, Tensor]:
        """Add what the round has reached, and move the queue by what it cost.

        A round that costs nothing, because it writes nothing, sets no budget: the first
        one that does is the first.
        """
        total = written if state.total is None else state.total + written
        loss = ((total @ state.prior.text()) * total).sum().reshape(1)
        if QUEUE not in state.kept and not bool(loss > 0):
            return state.kept
        values = state.prior.memory_weight * total @ gram
        if VALUES in state.kept:
            values += state.kept[VALUES]
        allowed = state.kept.get(ALLOWED, self.budget * loss)
        floor = allowed.sqrt()
        before = state.kept.get(QUEUE, floor)
        queue = torch.maximum(before + (loss - allowed) / floor, floor)
        return {QUEUE: queue, ALLOWED: allowed, VALUES: values}
