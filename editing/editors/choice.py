"""The editors a run can name."""

import json
from typing import TYPE_CHECKING

from editing.base.plugins import Choice, Plugins

if TYPE_CHECKING:  # a name is read without torch
    from editing.editors.base import Editor

MEMIT = "memit"

EDITORS: dict[str, str] = {
    MEMIT: "editing.editors.memit:MemitEditor",
    "alphaedit": "editing.editors.alphaedit:AlphaEditEditor",
    "betaedit": "editing.editors.betaedit:BetaEditEditor",
    "lyaplock": "editing.editors.lyaplock:LyapLockEditor",
    "emmet": "editing.editors.emmet:EmmetEditor",
    "ultraedit": "editing.editors.ultraedit:UltraEditEditor",
    "stableedit": "editing.editors.stableedit:StableEditEditor",
    "malmen": "editing.editors.malmen:MalmenEditor",
}
"""The classes of this tree's editors by name."""

_PLUGINS: "Plugins[Editor]" = Plugins(
    kind="editor",
    base="editing.editors.base:Editor",
    known=EDITORS,
    wanted=("paper", "summary"),
    abstract="system",
)


class EditorChoice(Choice):
    """The ``[editor]`` table: which editor, and its own settings.

    Attributes:
        name: The name of an editor, or the import path of one from outside the tree
            (``package.module:ClassName``).
        settings: The editor's own settings, and ``post``: what is done to each merged
            update, a list of tables with the name (``sphere``, ``rect`` or ``prune``)
            and the settings of each step.
    """

    name: str = MEMIT

    @property
    def is_plain(self) -> bool:
        """Whether the name is enough, so that no class is loaded to check it."""
        return self.name in EDITORS and not self.settings

    def build(self) -> "Editor":
        """Make the editor.

        An unknown name is an `InputError`, a wrong setting pydantic's
        ``ValidationError``.
        """
        editor = _PLUGINS.read({"name": self.name, **self.settings})
        exact = json.dumps({**self.settings, "name": editor.name})
        return type(editor).model_validate_json(exact, strict=True)


def find_editor(name: str) -> "type[Editor]":
    """Look up an editor's class; a name of none is an `InputError`."""
    return _PLUGINS.find(name)


def check_name(name: str) -> None:
    """Refuse a name that is neither known nor an import path, as an `InputError`."""
    _PLUGINS.check(name)
