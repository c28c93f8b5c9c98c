"""The merges a run can name.

Reading a name loads no merge: whoever validates settings need not wait for torch.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from editing.base.errors import InputError

if TYPE_CHECKING:
    from strategies.merges.base import Merge

MERGES: dict[str, str] = {
    "collabedit": "strategies.merges.pooled:CollabEditMerge",
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


def known_names() -> list[str]:
    """List the merges of this tree by name, in the order of `MERGES`."""
    return list(MERGES)


def read_merge(choice: str | Mapping[str, object]) -> "Merge":
    """Build a merge from its name, or from a table of its name and settings.

    The import path of a merge from outside the tree becomes its name, unless its class
    has given it one. A wrong setting is pydantic's ``ValidationError``.
    """
    table = dict({"name": choice} if isinstance(choice, str) else choice)
    merge_class = find_merge(table.get("name"))
    if not merge_class.model_fields["name"].is_required():
        del table["name"]
    return merge_class.model_validate(table)


def find_merge(name: object) -> "type[Merge]":
    """Look up a merge's class by its word or, if that has a colon, its import path.

    A name of no merge is an `InputError`.
    """
    check_name(name)
    return _load(MERGES.get(str(name), str(name)))


def check_name(name: object) -> None:
    """Refuse a name that is neither known nor an import path; load nothing.

    Raises:
        InputError: If it is neither.
    """
    if not isinstance(name, str) or not (name in MERGES or ":" in name):
        raise InputError(
            f"Unknown merge {name!r}. Known are {', '.join(known_names())}; `global` "
            "lays all requests at one party, and a merge from outside the tree is "
            "named `package.module:ClassName`."
        )


def _load(reference: str) -> "type[Merge]":
    """Import a merge class.

    Raises:
        InputError: If there is no such class, or it is no complete merge.
    """
    from strategies.merges.base import Merge

    module, _, attribute = reference.partition(":")
    try:
        loaded = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"Cannot load merge `{reference}`: {error}. Wanted "
            "`package.module:ClassName` of a module that Python can import from here."
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Merge)):
        raise InputError(
            f"`{reference}` is no merge: derive it from `strategies.merges.base.Merge`."
        )
    missing = [word for word in ("paper", "needs") if not hasattr(loaded, word)]
    if inspect.isabstract(loaded):
        missing.append("__call__")
    if missing:
        raise InputError(f"Merge `{reference}` does not define {', '.join(missing)}.")
    return loaded
