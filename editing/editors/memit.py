"""MEMIT: ridge regression against keys of plain text and of earlier edits."""

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat

from editing.editors.base import Editor
from editing.editors.system import LayerState, System


class MemitEditor(Editor):
    """Solve ``delta = B (λC₀ + γM + ρI + S)⁻¹``.

    With ``γ = 1`` it is MEMIT's sequential form, and with ``ρ`` too ENCORE's solve
    (arXiv 2502.01636) and RLSEdit's (arXiv 2601.15686), whose ``λ²`` is ``ρ`` and whose
    anchor ``μ² K₀ᵀK₀`` is ``λC₀``: then the updates of all rounds together minimise
    ``Σ ‖D k − v‖² + ρ‖D‖² + λ tr(D C₀ Dᵀ)``.

    Attributes:
        ridge: ``ρ``.
    """

    name: Literal["memit"] = "memit"
    ridge: NonNegativeFloat = 0.0
    paper: ClassVar[str] = "arXiv:2210.07229"
    summary: ClassVar[str] = "ridge regression against keys of plain text"

    def system(self, state: LayerState) -> System:
        """Lay out the normal equations."""
        return System(state.prior.changed(ridge=self.ridge))
