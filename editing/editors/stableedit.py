"""StableEdit: UltraEdit with whitened gradients."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from editing.answers.rule import ridge_prior
from editing.answers.standardised import StandardisedRule
from editing.editors.base import Editor
from editing.editors.system import LayerState, System


class StableEditEditor(Editor):
    """Solve as UltraEdit does, with ``ĝ = Σ^(−½) (g − ḡ)``.

    ``Σ`` is the covariance of the gradients of all parties and rounds. Until there are
    more rows than entries of a gradient and one, gradients are standardised entry by
    entry.

    Attributes:
        learning_rate: ``η``.
        ridge: ``α``.
        floor: The least eigenvalue of ``Σ``; smaller ones are raised to it. Gradients
            are of the sum over answer tokens, not of a mean.
    """

    name: Literal["stableedit"] = "stableedit"
    learning_rate: PositiveFloat = 1e-6
    ridge: PositiveFloat = 1.0
    floor: PositiveFloat = 1e-6
    paper: ClassVar[str] = "arXiv:2605.11836"
    summary: ClassVar[str] = "UltraEdit with whitened gradients"

    @property
    def answers(self) -> StandardisedRule:
        """Whiten gradients."""
        return StandardisedRule(
            learning_rate=self.learning_rate, ridge=self.ridge, floor=self.floor
        )

    def system(self, state: LayerState) -> System:
        """Lay out the ridge regression of values on keys."""
        return System(ridge_prior(len(state.prior.covariance), self.ridge))
