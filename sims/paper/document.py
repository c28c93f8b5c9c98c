"""Tables of a paper within a document, between two lines that mark their place."""

import re
from pathlib import Path

from editing.base.errors import InputError
from editing.files.atomic import write_whole

BEGIN, END = "<!-- paper -->", "<!-- /paper -->"
_BLOCK = re.compile(rf"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$", re.DOTALL | re.M)
INCLUDED = "tables.md"
"""The file of a paper's folder that a document takes."""


def check_document(document: Path) -> str:
    """Read a document that has a place for the tables.

    Raises:
        InputError: If it has none.
    """
    text = document.read_text(encoding="utf-8")
    if len(_BLOCK.findall(text)) != 1:
        raise InputError(
            f"--markdown {document}: wanted the line `{BEGIN}` and below it the line "
            f"`{END}`, once; the tables go between them"
        )
    return text


def update_document(document: Path, folder: Path) -> None:
    """Put the tables of a paper into a document, in the place of earlier ones."""
    text = check_document(document)
    tables = (folder / INCLUDED).read_text(encoding="utf-8").strip()
    block = f"{BEGIN}\n\n{tables}\n\n{END}"
    write_whole(document, _BLOCK.sub(lambda _: block, text))
