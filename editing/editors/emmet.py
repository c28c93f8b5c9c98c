"""EMMET: edits as constraints, of one edit ROME's."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from editing.editors.base import Editor
from editing.editors.system import LayerState, System


class EmmetEditor(Editor):
    """Solve ``delta = Rᵀ (K A⁻¹ Kᵀ + μI)⁻¹ K A⁻¹`` with ``A = λC₀ + γM``.

    That is ``B (S + μA)⁻¹`` to the last term, since ``(K A⁻¹ Kᵀ + μI) K = K A⁻¹ (S +
    μA)``: MEMIT with a prior ``μ`` times as heavy. As ``μ`` goes to 0 all edits are
    reached exactly, as far as their keys differ; with one edit that is ROME (arXiv
    2202.05262).

    Attributes:
        slack: ``μ``, the program's ``emmet_lambda``.
    """

    name: Literal["emmet"] = "emmet"
    slack: PositiveFloat = 0.1
    paper: ClassVar[str] = "arXiv:2403.14236"
    summary: ClassVar[str] = "reach every edit up to a slack; one edit: ROME"

    def system(self, state: LayerState) -> System:
        """Lay out the system of MEMIT with the lighter prior."""
        return System(state.prior.changed(self.slack))
