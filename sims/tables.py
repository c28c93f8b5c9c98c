"""Tables for a terminal: as wide as it is, and no word broken."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from server.report.tables import TableText

GAP = 2
"""Blanks between two columns."""

LABEL_WIDTH = 40
"""A longer label is folded."""


FORMULA_SIGNS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What a table program takes for the beginning of a formula, full width as well."""


def plain_cell(value: object) -> object:
    """Put an apostrophe before a text that a table program would compute.

    Texts of others reach CSV files: names of folders, relations and subjects.
    """
    begins = isinstance(value, str) and value.startswith(FORMULA_SIGNS)
    return f"'{value}" if begins else value


def fit_tables(
    text: TableText,
    width: int,
    title: str = "",
    style_of: Callable[[Sequence[str]], str | None] = lambda _: None,
) -> list[Table]:
    """Lay a table out in a width; columns that do not fit go to further tables.

    Each of them repeats the labels. Headings break between words only.

    Args:
        text: The table.
        width: Columns of the terminal.
        title: The heading above the first table.
        style_of: Returns rich's style of a row.
    """
    widths = [width_of(text, column) for column in range(len(text.heads))]
    labels = range(text.labels)
    for column in labels:
        widths[column] = min(widths[column], LABEL_WIDTH, width // (1 + text.labels))
    return [
        _lay_out(text, [*labels, *part], widths, title if place == 0 else " ", style_of)
        for place, part in enumerate(split_columns(widths, text.labels, width))
    ]


def width_of(text: TableText, column: int) -> int:
    """Return the least width of a column: its longest cell, or word of the heading."""
    words = text.heads[column].split()
    return max(map(cell_len, [*words, *(row[column] for row in text.rows)]), default=1)


def split_columns(
    widths: Sequence[int], labels: int, width: int
) -> Iterator[list[int]]:
    """Split the columns after the labels into parts, each as wide as fits."""
    first = sum(widths[:labels]) + GAP * (labels - 1)
    part, used = list[int](), first
    for column in range(labels, len(widths)):
        needed = GAP + widths[column]
        if part and used + needed > width:
            yield part
            part, used = [], first
        part.append(column)
        used += needed
    yield part


def _lay_out(
    text: TableText,
    columns: Sequence[int],
    widths: Sequence[int],
    title: str,
    style_of: Callable[[Sequence[str]], str | None],
) -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        wide = widths[column]
        head = "\n".join(textwrap.wrap(text.heads[column], wide)) or ""
        is_label = column < text.labels
        table.add_column(
            Text(head),
            justify="left" if is_label else "right",
            overflow="fold",
            width=wide,
        )
    for row in text.rows:
        cells = [Text(row[column]) for column in columns]
        table.add_row(*cells, style=style_of(row))
    return table
