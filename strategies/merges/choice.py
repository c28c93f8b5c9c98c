"""The merges a run can name."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter

from editing.errors import InputError
from strategies.merges.average import SimpleAverageMerge
from strategies.merges.base import Merge
from strategies.merges.pooled import CollabEditMerge, GlobalMerge
from strategies.merges.task_arithmetic import TaskArithmeticMerge
from strategies.merges.ties import TiesMerge

KnownMerge = Annotated[
    CollabEditMerge
    | GlobalMerge
    | SimpleAverageMerge
    | TaskArithmeticMerge
    | TiesMerge,
    Field(discriminator="name"),
]


def known_names() -> list[str]:
    """List the merges of this tree, in the order a report shows them."""
    union = get_args(KnownMerge)[0]
    return [merge.model_fields["name"].default for merge in get_args(union)]


def read_merge(choice: str | Mapping[str, object] | Merge) -> Merge:
    """Build a merge from its name, or from a table of its name and settings.

    A name with a colon, ``package.module:ClassName``, is a merge from outside the tree.

    Raises:
        InputError: If the name is missing or unknown. The same if a class cannot be
            loaded or is no merge; a wrong setting is pydantic's ``ValidationError``.
    """
    if isinstance(choice, Merge):
        return choice
    table = dict({"name": choice} if isinstance(choice, str) else choice)
    name = table.get("name")
    if isinstance(name, str) and ":" in name:
        return _read_external(name, table)
    if name not in known_names():
        raise InputError(
            f"Unknown merge {name!r}. Known are {', '.join(known_names())}; a merge "
            "from outside the tree is named `package.module:ClassName`."
        )
    merge: Merge = TypeAdapter(KnownMerge).validate_python(table)
    return merge


def _read_external(reference: str, table: dict[str, object]) -> Merge:
    """Validate settings against a merge that was named by its import path."""
    merge_class = _load(reference)
    if not merge_class.model_fields["name"].is_required():
        del table["name"]
    return merge_class.model_validate(table)


def _load(reference: str) -> type[Merge]:
    """Import a merge class.

    Raises:
        InputError: If there is no such class, or it is no complete merge.
    """
    module, _, attribute = reference.partition(":")
    try:
        loaded = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
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


AnyMerge = Annotated[SerializeAsAny[Merge], BeforeValidator(read_merge)]
