"""MALMEN: a hypernetwork makes values of keys and gradients at the answers' tokens."""

from typing import ClassVar, Literal

from editing.editors.base import Editor
from editing.editors.system import LayerState, System
from editing.malmen.rule import HypernetworkRule
from editing.sources.embedded import EMBEDDED


class MalmenEditor(Editor):
    """Solve ``delta = (Σ v kᵀ)(Σ k kᵀ + e^λ I)⁻¹`` with ``v = −η (k · k̃) g̃``.

    Keys ``k`` and output gradients ``g`` are read at the answers' tokens; a trained
    hypernetwork turns them into ``k̃`` and ``g̃``, and holds ``η`` and ``λ`` of each
    layer. Nothing is read of plain text, of earlier rounds' keys, or at a subject.

    Attributes:
        hypernetwork: A file that training wrote, or ``embedded``: the file
            ``hypernetwork.safetensors`` in the model's folder. Every machine reads its
            own copy.
    """

    name: Literal["malmen"] = "malmen"
    hypernetwork: str = EMBEDDED
    paper: ClassVar[str] = "arXiv:2311.04661"
    summary: ClassVar[str] = "values made by a trained hypernetwork"

    @property
    def answers(self) -> HypernetworkRule:
        """Make values by the hypernetwork."""
        return HypernetworkRule(source=self.hypernetwork)

    def system(self, state: LayerState) -> System:
        """Lay out the ridge regression; the layer's prior is ``e^λ I``."""
        return System(state.prior)
