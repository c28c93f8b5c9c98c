"""Reading a merge from its name, its settings or an import path."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import pytest
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.base.errors import InputError
from editing.editors.system import System
from strategies.merges.base import NOWHERE, Merge, MergeContext
from strategies.merges.choice import MERGES, find_merge, known_names, read_merge
from strategies.merges.ties import TiesMerge
from tests.laws import assert_same, draw_parties, draw_prior


class FirstParty(Merge):
    """A merge from outside: whoever comes first decides."""

    strength: float = 1.0
    paper: ClassVar[str] = "none"
    needs: ClassVar[Literal["sum", "each"]] = "each"

    def __call__(
        self,
        statistics: Sequence[LayerStatistics],
        system: System,
        context: MergeContext = NOWHERE,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "d_out d_in"]:
        """Solve for the first party."""
        return self.strength * system.solve(statistics[0])


class NamedFirstParty(FirstParty):
    """A merge from outside that brings its own name."""

    name: Literal["first"] = "first"


class SameName(NamedFirstParty):
    """Another merge from outside, of the same name."""


class Unfinished(Merge):
    """A merge that lacks everything."""


HERE = "tests.strategies.merges.test_choice"


def test_names_are_those_of_the_design() -> None:
    """Scenarios and reports depend on them."""
    assert known_names() == [
        "collabedit",
        "collabedit-deltas",
        "simple-average",
        "task-arithmetic",
        "ties",
        "dare",
        "della",
        "breadcrumbs",
        "sce",
        "model-stock",
        "karcher",
        "regmean",
    ]


@pytest.mark.parametrize("name", MERGES)
def test_every_merge_is_chosen_by_its_name(name: str) -> None:
    """By the word alone, in a table, and again from its own dump."""
    merge = find_merge(name)
    expected = merge.model_validate({})
    assert expected.name == name
    assert read_merge(expected.name) == expected
    assert read_merge({"name": expected.name}) == expected
    assert read_merge(expected.model_dump()) == expected
    assert type(read_merge(name)) is merge


@pytest.mark.parametrize("name", MERGES)
def test_every_merge_says_where_it_comes_from_and_what_it_needs(name: str) -> None:
    """A report cites it, a server plans by it."""
    merge = find_merge(name)
    assert merge.paper.startswith("arXiv:")
    assert merge.needs in {"sum", "each"}


def test_settings_are_read_together_with_the_name() -> None:
    """As a scenario's table gives them."""
    assert read_merge({"name": "ties", "density": 0.5}) == TiesMerge(density=0.5)


@pytest.mark.parametrize("name", ["colabedit", "", "Ties"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    """And with the form that a merge from outside has."""
    with pytest.raises(InputError, match=r"Unknown merge .*ties.*package\.module:Cl"):
        read_merge(name)


@pytest.mark.parametrize("name", [None, 3, ["ties"]])
def test_a_name_that_is_no_word_is_refused(name: object) -> None:
    """No merge is a default here."""
    with pytest.raises(InputError, match="Unknown merge"):
        read_merge({"name": name})
    with pytest.raises(InputError, match="Unknown merge None"):
        read_merge({"density": 0.5})


@pytest.mark.parametrize(
    "table",
    [
        {"name": "collabedit", "density": 0.5},
        {"name": "ties", "density": 2},
        {"name": f"{HERE}:FirstParty", "density": 0.5},
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, object]) -> None:
    """Unknown or out of range, in the tree or from outside."""
    with pytest.raises(ValidationError, match="density"):
        read_merge(table)


def test_a_merge_from_outside_is_found_by_its_import_path() -> None:
    """Loaded, given its settings, and called like any other."""
    path = f"{HERE}:FirstParty"
    merge = read_merge({"name": path, "strength": 2.0})
    assert merge.name == path
    assert read_merge(merge.model_dump()) == merge
    parties, prior = draw_parties([2, 3]), Prior(draw_prior())
    assert_same(merge(parties, System(prior)), 2 * solve_delta(parties[0], prior))


def test_a_merge_from_outside_keeps_the_name_it_brings() -> None:
    """So that it can move into the tree unchanged."""
    assert read_merge(f"{HERE}:NamedFirstParty").name == "first"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such.module:Merge", "Cannot load .*No module named 'no'"),
        (f"{HERE}:Missing", "Cannot load .*Missing"),
        (f"{HERE}:", "Cannot load"),
        (":Missing", "Cannot load"),
        (".relative:Missing", "Cannot load"),
        (
            f"{HERE}:LayerStatistics",
            "no merge: derive it from `strategies.merges.base.Merge`",
        ),
        (f"{HERE}:HERE", "no merge"),
        (f"{HERE}:Unfinished", "does not define paper, needs, __call__"),
    ],
)
def test_a_path_to_no_merge_is_refused(path: str, message: str) -> None:
    """The message names what is missing."""
    with pytest.raises(InputError, match=message):
        read_merge(path)
