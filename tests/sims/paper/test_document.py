"""Tables within a document."""

from pathlib import Path

import pytest

from editing.base.errors import InputError
from sims.paper.document import BEGIN, END, INCLUDED, check_document, update_document


def test_tables_replace_earlier_ones_and_nothing_else(tmp_path: Path) -> None:
    """Twice is as once."""
    (tmp_path / INCLUDED).write_text("| a |\n\\1 $x$\n")
    document = tmp_path / "studies.md"
    document.write_text(f"# Mine\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    for _ in range(2):
        update_document(document, tmp_path)
    assert document.read_text() == (
        f"# Mine\n\n{BEGIN}\n\n| a |\n\\1 $x$\n\n{END}\n\nmore\n"
    )


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}\n", f"{BEGIN} {END}\n"])
def test_a_document_without_a_place_is_refused(text: str, tmp_path: Path) -> None:
    """By the option's name, before anything is run."""
    document = tmp_path / "mine.md"
    document.write_text(text)
    with pytest.raises(InputError, match="--markdown"):
        check_document(document)
