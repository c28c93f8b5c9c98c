"""UltraEdit: one step along the gradients at the answers' tokens, standardised."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from editing.answers.rule import ridge_prior
from editing.answers.standardised import StandardisedRule
from editing.editors.base import Editor
from editing.editors.system import LayerState, System


class UltraEditEditor(Editor):
    """Solve ``delta = (Σ v kᵀ)(Σ k kᵀ + αI)⁻¹`` with ``v = −η ‖k̂‖² ĝ``.

    Keys ``k`` and output gradients ``g`` are read at the answers' tokens; hats are
    standardised by the moments of all parties and rounds. Nothing is read of plain
    text, of earlier rounds' keys, or at a subject.

    Attributes:
        learning_rate: ``η``.
        ridge: ``α``.
    """

    name: Literal["ultraedit"] = "ultraedit"
    learning_rate: PositiveFloat = 1e-6
    ridge: PositiveFloat = 1.0
    paper: ClassVar[str] = "arXiv:2505.14679"
    summary: ClassVar[str] = "one standardised gradient step at the answers' tokens"

    @property
    def answers(self) -> StandardisedRule:
        """Standardise gradients entry by entry."""
        return StandardisedRule(learning_rate=self.learning_rate, ridge=self.ridge)

    def system(self, state: LayerState) -> System:
        """Lay out the ridge regression of values on keys."""
        return System(ridge_prior(len(state.prior.covariance), self.ridge))
