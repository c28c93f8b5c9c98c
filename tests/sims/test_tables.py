"""A table fits its terminal, and no word of it is broken."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from server.report.tables import TableText
from sims.tables import LABEL_WIDTH, fit_tables

WORDS = st.text("abcdefgh", min_size=1, max_size=10)
CELLS = st.text("0123456789.", min_size=1, max_size=8)


def drawn(text: TableText, width: int) -> list[str]:
    """Print a table to a terminal of a width, and return its lines."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in fit_tables(text, width, "A title"):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@given(
    heads=st.lists(
        st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=9
    ),
    width=st.sampled_from([40, 80, 110]),
    data=st.data(),
)
def test_every_word_and_number_is_there_whole(
    heads: list[str], width: int, data: st.DataObject
) -> None:
    """However many columns there are."""
    rows = [
        [label, *(data.draw(CELLS) for _ in heads)] for label in ("ties", "average")
    ]
    lines = drawn(TableText(["Merge", *heads], rows, 1), width)
    assert max(map(len, lines)) <= width
    written = " ".join(lines).split()
    for word in [word for head in heads for word in head.split()]:
        assert word in written
    for cell in [cell for row in rows for cell in row]:
        assert cell in written
    assert "…" not in " ".join(lines)


def test_columns_that_do_not_fit_are_in_another_table_with_the_labels() -> None:
    """So that each row can be read."""
    text = TableText(["Merge", *"abcd"], [["ties", *("1234567890",) * 4]], 1)
    lines = drawn(text, 32)
    assert [line.split() for line in lines if line.startswith("ties")] == [
        ["ties", "1234567890", "1234567890"]
    ] * 2


@pytest.mark.parametrize("label", ["[b]x[/b]", "a" * (LABEL_WIDTH + 5)])
def test_labels_are_shown_as_they_are_and_folded_if_long(label: str) -> None:
    """Brackets are no markup."""
    lines = drawn(TableText(["Merge", "Score"], [[label, "1.0"]], 1), 80)
    assert label in "".join(line.split("  ")[0].strip() for line in lines)
