"""What a merge is: settings that can be called."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.base.settings import Settings


class Merge(Settings):
    """Turn the parties' statistics of one layer into one delta.

    Attributes:
        name: The word that chooses the merge in a scenario and in a report.
        paper: Where the method comes from.
        needs: ``"sum"`` if the merge reads the parties' statistics only through their
            sum, so that a server may add replies as they arrive; ``"each"`` if not.
    """

    name: str
    paper: ClassVar[str]
    needs: ClassVar[Literal["sum", "each"]]

    @abstractmethod
    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        prior: Prior,
    ) -> Float[Tensor, "d_out d_in"]:
        """Merge the statistics of at least one party, in float64."""
