"""BetaEdit: AlphaEdit with a null space that is renewed with what was edited."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from editing.algebra.solving import Prior
from editing.editors.alphaedit import BASIS, find_free_of_text, find_null_space
from editing.editors.base import Editor
from editing.editors.system import LayerState, System

EDITS, SINCE = "edits", "since"


class BetaEditEditor(Editor):
    """Solve ``delta = B P ((S + γM + λ₁C₀) P + λ₂I)⁻¹`` with ``P = UUᵀ``.

    ``U`` is AlphaEdit's at first. Once ``τ`` edits have been made since, it is that of
    ``(γM/n + λ₁C₀) / (λ₁ + 1)``, with ``n`` the number of edits so far.

    Attributes:
        threshold: As AlphaEdit's.
        text_weight: ``λ₁``.
        ridge: ``λ₂``.
        renew_after: ``τ``, in edits.
    """

    name: Literal["betaedit"] = "betaedit"
    threshold: PositiveFloat = 2e-2
    text_weight: PositiveFloat = 3000.0
    ridge: PositiveFloat = 10.0
    renew_after: PositiveInt = 1000
    paper: ClassVar[str] = "arXiv:2605.09285"
    summary: ClassVar[str] = "alphaedit with a null space renewed by earlier edits"
    remembers: ClassVar[bool] = True
    weighs_text: ClassVar[bool] = False

    @classmethod
    def most_kept(cls, d_out: int, d_in: int) -> int:  # noqa: ARG003
        """Return the numbers of a basis of all directions, and two counts."""
        return d_in * d_in + 2

    def begin(self, state: LayerState) -> dict[str, Tensor]:
        """Compute ``U`` of the plain text, and count no edit."""
        none = torch.zeros(1, dtype=torch.float64)
        basis = find_free_of_text(state.prior.text(), self.threshold)
        return {BASIS: basis, EDITS: none, SINCE: none}

    def system(self, state: LayerState) -> System:
        """Lay out the system in the basis."""
        basis, past = state.kept[BASIS], state.prior.past()
        held = self.text_weight * state.prior.text()
        if past is not None:
            held += past
        inner = basis.mT @ held @ basis
        inner.diagonal().add_(self.ridge)
        return System(Prior(inner), basis)

    def remember(
        self,
        state: LayerState,
        gram: Float[Tensor, "d_in d_in"],
        count: int,
        written: Float[Tensor, "d_out d_in"],  # noqa: ARG002 - reads keys alone
    ) -> Mapping[str, Tensor]:
        """Count the edits, and renew ``U`` once there are enough."""
        edits, since = state.kept[EDITS] + count, state.kept[SINCE] + count
        basis = state.kept[BASIS]
        if since.item() >= self.renew_after:
            past = state.prior.memory_weight * gram
            if (earlier := state.prior.past()) is not None:
                past += earlier
            mixed = past / edits + self.text_weight * state.prior.text()
            basis = find_null_space(mixed / (self.text_weight + 1), self.threshold)
            since = torch.zeros_like(since)
        return {BASIS: basis, EDITS: edits, SINCE: since}
