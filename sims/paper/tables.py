"""Tables of means and standard deviations over seeds, as CSV, LaTeX, Markdown, HTML."""

import csv
import io
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeGuard

import pandas as pd

from server.report.tables import (
    ABSENT,
    SUCCESS_LEGEND,
    UNEDITED,
    TableText,
    headings,
    markdown_table,
    write_number,
)
from sims.latex import Place, write_latex
from sims.tables import plain_cell
from strategies.methods import GLOBAL

HIGHER = re.compile(
    r"scor|succe|acc|generated|efficacy|generali[sz]ation|specificity|retention"
    r"|\b(es|ps|ns)\b|contain|exact|ahead"
)
LOWER = re.compile(r"difference|residual|perplexity|loss|second|bytes|‖")
REFERENCES = {UNEDITED, "unedited", "before", GLOBAL}
"""Rows that are compared with and never the best: without edits, and on one machine."""

BEST = (
    "In bold the best of each column, of equal ones all; the unedited model and "
    "`global`, which has all requests on one machine, are for reference."
)
OVER_SEEDS = "Mean ± sample standard deviation (n − 1) over the seeds {seeds}. " + BEST
ONE_SEED = "Of the seed {seeds} alone. " + BEST


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure over seeds.

    Attributes:
        mean: Over the seeds that have it.
        deviation: The sample standard deviation (n − 1); None of a single seed.
        seeds: How many have it.
    """

    mean: float
    deviation: float | None
    seeds: int

    def write(self, name: str) -> str:
        """Write it with as many digits as its metric deserves."""
        mean = write_number(name, self.mean)
        if self.deviation is None:
            return mean
        return f"{mean} ± {write_number(name, self.deviation)}"


Cell: TypeAlias = Estimate | str | None
"""A figure, words that a study writes in its place, or nothing."""


def estimate(values: Sequence[float]) -> Estimate | None:
    """Average what is a number; None where there is none."""
    known = [float(each) for each in values if not math.isnan(each)]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Estimate(statistics.fmean(known), deviation, len(known))


@dataclass(frozen=True)
class MeanTable:
    """A table over seeds.

    Attributes:
        name: Names its files.
        title: What it is about.
        note: How to read it.
        labels: The headings of the rows' labels.
        columns: The metrics, by the names that `write_number` knows.
        rows: Each row's labels.
        cells: A row's figures, or words; None where nothing was measured.
        seeds: What it is over.
        definitions: The ids of the metrics' definitions, by column.
    """

    name: str
    title: str
    note: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[Cell, ...], ...]
    seeds: tuple[int, ...]
    definitions: Mapping[str, str]

    @property
    def explanation(self) -> str:
        """Say what the figures are, and what is in bold."""
        form = OVER_SEEDS if len(self.seeds) > 1 else ONE_SEED
        return form.format(seeds=", ".join(map(str, self.seeds)))

    @cached_property
    def text(self) -> TableText:
        """The figures as text."""
        rows = [
            [*labels, *map(write_estimate, self.columns, cells)]
            for labels, cells in zip(self.rows, self.cells, strict=True)
        ]
        heads = [*self.labels, *headings(self.columns)]
        return TableText(heads, rows, len(self.labels))

    @cached_property
    def best(self) -> frozenset[Place]:
        """The cells in bold, by row and column of `text`."""
        return frozenset(
            (row, column + len(self.labels))
            for column in range(len(self.columns))
            for row in self._best_of(column)
        )

    def _best_of(self, column: int) -> list[int]:
        name = self.columns[column]
        sign = direction(name)
        compared = {
            row: own[column]
            for row, own in enumerate(self.cells)
            if not is_reference(self.rows[row])
        }
        means = {r: each.mean for r, each in compared.items() if is_figure(each)}
        if not sign or len(means) < 2:
            return []
        top = max(means.values(), key=lambda mean: sign * mean)
        written = {row: write_number(name, mean) for row, mean in means.items()}
        found = [row for row in means if written[row] == write_number(name, top)]
        return found if len(found) < len(means) else []


def is_figure(cell: Cell) -> TypeGuard[Estimate]:
    """Return whether a cell is a figure."""
    return isinstance(cell, Estimate)


def is_reference(labels: Sequence[str]) -> bool:
    """Return whether a row is one to compare with; a label may have several parts."""
    return any(part in REFERENCES for label in labels for part in label.split(", "))


def direction(column: str) -> int:
    """Return 1 for a metric of which more is better, −1 of which less is; else 0."""
    name = column.lower()
    if LOWER.search(name):
        return -1
    return 1 if HIGHER.search(name) else 0


def write_estimate(name: str, cell: Cell) -> str:
    """Write a cell."""
    if cell is None or isinstance(cell, str):
        return cell or ABSENT
    return cell.write(name)


def combine(
    frames: Mapping[int, pd.DataFrame],
    name: str,
    title: str,
    note: str,
    definitions: Mapping[str, str],
) -> MeanTable:
    """Average tables of one form, one a seed; rows and columns are in first order."""
    rows = list(dict.fromkeys(row for frame in frames.values() for row in frame.index))
    columns = list(dict.fromkeys(c for frame in frames.values() for c in frame))
    cells = []
    for row in rows:
        found = [frame.loc[row] for frame in frames.values() if row in frame.index]
        own = [[each[c] for each in found if c in each] for c in columns]
        cells.append(tuple(map(average, own)))
    names = [list(row) if isinstance(row, tuple) else [row] for row in rows]
    return MeanTable(
        name=name,
        title=title,
        note=note,
        labels=name_labels(next(iter(frames.values())).index),
        columns=tuple(map(str, columns)),
        rows=tuple(tuple(map(write_label, each)) for each in names),
        cells=tuple(cells),
        seeds=tuple(frames),
        definitions={c: definitions[c] for c in map(str, columns) if c in definitions},
    )


def average(values: Sequence[object]) -> Cell:
    """Average figures; words are listed, each once."""
    words = dict.fromkeys(each for each in values if isinstance(each, str))
    if words:
        return "; ".join(words)
    return estimate([math.nan if each is None else float(str(each)) for each in values])


def name_labels(index: pd.Index) -> tuple[str, ...]:
    """Return the headings of an index's levels, without a name where it has none."""
    return tuple(str(name or "").capitalize() for name in index.names)


def write_label(label: object) -> str:
    """Write a label; a whole number without a point."""
    whole = isinstance(label, float) and label.is_integer()
    return f"{label:.0f}" if whole else str(label)


def write_csv(table: MeanTable) -> str:
    """Write means and deviations in full, in which no text is a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [part for c in table.columns for part in (c, f"{c}.deviation")]
    labels = [label or "row" for label in table.labels]
    writer.writerow(map(plain_cell, [*labels, "seeds", *names]))
    for row, cells in zip(table.rows, table.cells, strict=True):
        seeds = max((each.seeds for each in cells if is_figure(each)), default=0)
        figures = [value for each in cells for value in list_values(each)]
        writer.writerow([*map(plain_cell, row), seeds, *figures])
    return file.getvalue()


def list_values(cell: Cell) -> tuple[object, object]:
    """Return a cell's mean and deviation; words stand in the place of a mean."""
    if is_figure(cell):
        return cell.mean, cell.deviation
    return plain_cell(cell), None


def write_tex(table: MeanTable) -> str:
    """Write it with booktabs, the best in bold."""
    heads = [*table.labels, *headings(table.columns, short=True)]
    text = TableText(heads, table.text.rows, len(table.labels))
    parts = [f"{table.title}.", table.note, table.explanation]
    parts += [f"{SUCCESS_LEGEND}."] if {"ES", "PS", "NS"} & set(heads) else []
    return write_latex(text, table.name, " ".join(parts), table.best)


def write_markdown(table: MeanTable) -> str:
    """Write it as Markdown, the best in bold."""
    rows = [
        [
            f"**{cell}**" if (row, column) in table.best else cell
            for column, cell in enumerate(cells)
        ]
        for row, cells in enumerate(table.text.rows)
    ]
    return markdown_table(TableText(table.text.heads, rows, table.text.labels))


def describe(table: MeanTable) -> dict[str, object]:
    """Return it as data, the ids of its metrics' definitions included."""
    return {
        "name": table.name,
        "title": table.title,
        "seeds": list(table.seeds),
        "definitions": dict(table.definitions),
        "labels": list(table.labels),
        "rows": [
            {
                "labels": list(row),
                **{
                    name: {
                        "mean": each.mean,
                        "deviation": each.deviation,
                        "seeds": each.seeds,
                    }
                    if is_figure(each)
                    else each
                    for name, each in zip(table.columns, cells, strict=True)
                },
            }
            for row, cells in zip(table.rows, table.cells, strict=True)
        ],
    }
