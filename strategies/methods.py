"""What a scenario names and a report shows: a merge, or all requests at one party."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from editing.base.errors import InputError
from editing.base.plugins import Choice
from strategies.merges.choice import check_name, known_names, read_merge

if TYPE_CHECKING:  # a name is read without torch
    from strategies.merges.base import Merge

LEAST_SUMMED = 3
"""Parties of a secure sum: with two, each could subtract its own share."""

GLOBAL = "global"
"""The upper bound: one party holds all requests, and its statistics are solved."""


COMPARED = ("collabedit", "simple-average", "task-arithmetic", "ties")
"""The merges that a comparison runs, with the run's own and `global`, unless it names
others: those of CollabEdit's paper."""


@dataclass(frozen=True, slots=True)
class Method:
    """How a run turns all requests into one update.

    Attributes:
        name: The word of scenarios and reports.
        merge: Turns statistics into deltas.
        pooled: Whether one party holds all requests, so that nothing is left to merge.
    """

    name: str
    merge: "Merge"
    pooled: bool = False

    def settings(self) -> dict[str, object]:
        """The name and the settings of the merge, as JSON values."""
        return {**self.merge.model_dump(mode="json"), "name": self.name}

    @property
    def sums(self) -> bool:
        """Whether the parties' sum is all that the server needs."""
        return self.pooled or self.merge.needs == "sum"


def check_secure_sums(methods: Sequence[Method], parties: int) -> None:
    """Refuse to sum under masks where sums are not enough, or tell of single parties.

    Args:
        methods: What the run merges by; `global` has one party, and nothing to sum.
        parties: How many there are, those aside that are left out.

    Raises:
        InputError: Saying why, and what to set.
    """
    each = [method.name for method in methods if not method.sums]
    instead = "or set `privacy.secure-sum` to false if the server may see each party's"
    if each:
        raise InputError(
            f"`privacy.secure-sum`: {', '.join(each)} solves for each party alone, so "
            "the server would need each party's statistics, and a secure sum shows it "
            f"none. Choose `collabedit` (merge.name, run.merges), {instead}"
        )
    if parties < LEAST_SUMMED and not all(method.pooled for method in methods):
        raise InputError(
            f"`privacy.secure-sum`: a sum of {parties} parties tells each of them the "
            f"other's share. Set `parties.count` to {LEAST_SUMMED} or more, apart from "
            f"those in `parties.without`, {instead}"
        )


def known_methods() -> list[str]:
    """List every name that a scenario may give without an import path.

    `global` comes last: the parties have computed all targets by then, side by side.
    """
    return [*known_names(), GLOBAL]


def check_method(name: str) -> None:
    """Refuse a name of no method as an `InputError`, and load no class for it."""
    if name != GLOBAL:
        check_name(name)


def read_method(choice: str | Mapping[str, object]) -> Method:
    """Read a method from its name, or from a table of its name and settings.

    Under `global`, the algebra is that of `CollabEditMerge` for a single party. An
    unknown name is an `InputError`, a wrong setting pydantic's ``ValidationError``.
    """
    from strategies.merges.pooled import CollabEditMerge

    table = dict({"name": choice} if isinstance(choice, str) else choice)
    if table.get("name") == GLOBAL:
        pooling = CollabEditMerge.model_validate({**table, "name": "collabedit"})
        return Method(GLOBAL, pooling, pooled=True)
    merge = read_merge(table)
    return Method(merge.name, merge)


class MergeChoice(Choice):
    """Which merge, by name or import path, and its own settings.

    Attributes:
        name: The name of a merge, the import path of one from outside the tree
            (``package.module:ClassName``), or ``global``, which lays all requests at
            one party.
        settings: The merge's own settings.
    """

    name: str = "collabedit"

    @property
    def is_plain(self) -> bool:
        """Whether the name is enough, so that no class is loaded to check it."""
        return self.name in known_methods() and not self.settings

    def build(self) -> Method:
        """Make the method that is named here; an unknown name is an `InputError`."""
        method = read_method({"name": self.name, **self.settings})
        exact = json.dumps({**self.settings, "name": method.merge.name})
        merge = type(method.merge).model_validate_json(exact, strict=True)
        return replace(method, merge=merge)
