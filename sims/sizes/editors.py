"""What each editor reads and sends, at the widths of a model."""

from collections.abc import Iterator
from dataclasses import dataclass

from editing.editors.base import Editor
from editing.editors.choice import EDITORS
from sims.sizes.estimate import Estimate, EstimateOrder
from sims.sizes.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class EditorSize:
    """What an editor costs a party.

    Attributes:
        name: The word that chooses it.
        editor: Its class.
        reads: What it needs: of a request, and of plain text.
        exchanges: Of statistics in a round, layer by layer where that matters.
        bytes_up: What a party sends in a round.
    """

    name: str
    editor: type[Editor]
    reads: str
    exchanges: int
    bytes_up: int


def list_editors(shape: ModelShape, requests: int) -> Iterator[EditorSize]:
    """List every editor of the tree, with its cost in a round.

    Args:
        shape: The model's.
        requests: Requests of a party in a round.
    """
    for name in EDITORS:
        found = Estimate(shape, EstimateOrder(requests=requests, editor=name))
        own = found.own
        yield EditorSize(
            name,
            type(own.editor),
            own.reads,
            found.exchanges + own.pools,
            found.layer_count * found.statistics + own.moments,
        )
