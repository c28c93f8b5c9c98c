"""Reading an editor from its name, its settings or an import path."""

import pytest
from pydantic import ValidationError

from editing.algebra.solving import Prior
from editing.base.errors import InputError
from editing.editors.alphaedit import AlphaEditEditor
from editing.editors.base import Editor
from editing.editors.choice import EDITORS, EditorChoice, find_editor
from editing.editors.memit import MemitEditor
from editing.editors.system import LayerState, System
from tests.laws import draw_prior


class HeavyPrior(Editor):
    """An editor from outside: MEMIT's with another prior."""

    factor: float = 2.0
    paper = "none"
    summary = "a heavier prior"

    def system(self, state: LayerState) -> System:
        """Change the prior."""
        return System(state.prior.changed(self.factor))


HERE = f"{__name__}:HeavyPrior"


@pytest.mark.parametrize("name", EDITORS)
def test_every_editor_is_chosen_by_its_name(name: str) -> None:
    """And says where it comes from and what it does."""
    editor = EditorChoice(name=name).build()
    assert editor.name == name
    assert type(editor) is find_editor(name)
    assert editor.paper.startswith("arXiv:")
    assert editor.summary


def test_settings_are_written_next_to_the_name() -> None:
    """As in a scenario."""
    table = {"name": "alphaedit", "ridge": 0.5}
    choice = EditorChoice.model_validate(table)
    assert choice.build() == AlphaEditEditor(ridge=0.5)
    assert EditorChoice().build() == MemitEditor()


def test_an_editor_from_outside_is_found_by_its_import_path() -> None:
    """Loaded, given its settings, and called like any other."""
    choice = EditorChoice(name=HERE, settings={"factor": 3.0})
    editor = choice.build()
    prior = Prior(draw_prior(), 2.0)
    found = editor.system(LayerState(prior)).prior.matrix()
    assert (found - 3 * prior.matrix()).norm() < 1e-12
    assert not choice.is_plain


@pytest.mark.parametrize("name", ["alfaedit", "", "Memit"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    """And with the form that one from outside has."""
    with pytest.raises(InputError, match=r"Unknown editor .*alphaedit.*module:Class"):
        EditorChoice(name=name).build()


@pytest.mark.parametrize("settings", [{"ridge": "0.5"}, {"ridge": -1}, {"slack": 1}])
def test_a_wrong_setting_is_refused(settings: dict[str, str | int]) -> None:
    """Mistyped, out of range, or of another editor."""
    with pytest.raises(ValidationError):
        EditorChoice(name="alphaedit", settings=settings).build()
