"""What an editor is: settings that lay out what is solved for a layer."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from editing.base.settings import Settings
from editing.editors.system import LayerState, System
from editing.malmen.rule import AnyRule
from editing.post_steps.steps import AnyPostStep


class Editor(Settings):
    """Turn statistics and the state of a layer into a delta.

    An editor of MEMIT's family solves from sums over keys and residuals alone.

    Attributes:
        name: The word that chooses the editor in a scenario and in a report.
        post: What is done to each merged update, in this order: tables with the name
            and the settings of ``sphere``, ``rect`` or ``prune``.
        paper: Where the method comes from.
        summary: What it does, in one line.
        remembers: Whether it reads earlier rounds even if ``γ`` is 0.
        weighs_text: Whether it weighs the covariance by ``λ``.
    """

    name: str
    post: tuple[AnyPostStep, ...] = ()
    paper: ClassVar[str]
    summary: ClassVar[str]
    remembers: ClassVar[bool] = False
    weighs_text: ClassVar[bool] = True

    @property
    def answers(self) -> AnyRule | None:
        """How values are made of keys and gradients at the answers' tokens.

        None for MEMIT's family, which reads keys and residuals at the subject's.
        """
        return None

    def budget_in_use(self, kept: Mapping[str, Tensor]) -> float | None:  # noqa: ARG002
        """Return what a report shows of what is kept, in per cent; None for nothing."""
        return None

    @classmethod
    def most_kept(cls, d_out: int, d_in: int) -> int:  # noqa: ARG003
        """Return how many numbers of a layer are kept at most; none as a rule."""
        return 0

    @abstractmethod
    def system(self, state: LayerState) -> System:
        """Lay out what is solved for a layer in a round, in float64."""

    def begin(self, state: LayerState) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute what is kept before the first round; nothing as a rule."""
        return {}

    def remember(
        self,
        state: LayerState,
        gram: Float[Tensor, "d_in d_in"],  # noqa: ARG002
        count: int,  # noqa: ARG002
        written: Float[Tensor, "d_out d_in"],  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Compute what is kept after a round; nothing changes as a rule.

        Args:
            state: Of the layer when the round began.
            gram: ``S`` of the round, the sum over its parties.
            count: The number of its edits.
            written: The round's delta.
        """
        return state.kept
