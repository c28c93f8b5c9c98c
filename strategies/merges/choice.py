"""The merges a run can name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from editing.base.plugins import Plugins

if TYPE_CHECKING:
    from strategies.merges.base import Merge

MERGES: dict[str, str] = {
    "collabedit": "strategies.merges.pooled:CollabEditMerge",
    "collabedit-deltas": "strategies.merges.pooled:CollabEditDeltasMerge",
    "simple-average": "strategies.merges.average:SimpleAverageMerge",
    "task-arithmetic": "strategies.merges.task_arithmetic:TaskArithmeticMerge",
    "ties": "strategies.merges.ties:TiesMerge",
    "dare": "strategies.merges.dropping:DareMerge",
    "della": "strategies.merges.dropping:DellaMerge",
    "breadcrumbs": "strategies.merges.breadcrumbs:BreadcrumbsMerge",
    "sce": "strategies.merges.sce:SceMerge",
    "model-stock": "strategies.merges.geometric:ModelStockMerge",
    "karcher": "strategies.merges.geometric:KarcherMerge",
    "regmean": "strategies.merges.regmean:RegmeanMerge",
}
"""The classes of this tree's merges by name, in the order a report shows them."""

_PLUGINS: "Plugins[Merge]" = Plugins(
    kind="merge",
    base="strategies.merges.base:Merge",
    known=MERGES,
    wanted=("paper", "needs"),
    abstract="__call__",
    besides="`global` lays all requests at one party, and ",
)


def known_names() -> list[str]:
    """List the merges of this tree by name, in the order of `MERGES`."""
    return list(MERGES)


def read_merge(choice: str | Mapping[str, object]) -> "Merge":
    """Build a merge from its name, or from a table of its name and settings.

    The import path of a merge from outside the tree becomes its name, unless its class
    has given it one. A wrong setting is pydantic's ``ValidationError``.
    """
    return _PLUGINS.read(choice)


def find_merge(name: object) -> "type[Merge]":
    """Look up a merge's class by its word or, if that has a colon, its import path.

    A name of no merge is an `InputError`.
    """
    return _PLUGINS.find(name)


def check_name(name: object) -> None:
    """Refuse a name that is neither known nor an import path, as an `InputError`."""
    _PLUGINS.check(name)
