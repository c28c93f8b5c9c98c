"""Tables of means and standard deviations over seeds, as CSV, LaTeX, Markdown, HTML."""

import csv
import io
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from server.report.tables import (
    ABSENT,
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
        cells: A row's figures; None where nothing was measured.
        seeds: What it is over.
        definitions: The ids of the metrics' definitions, by column.
    """

    name: str
    title: str
    note: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[Estimate | None, ...], ...]
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
            if own[column] is not None and not REFERENCES & set(self.rows[row])
        }
        means = {row: each.mean for row, each in compared.items() if each is not None}
        if not sign or len(means) < 2:
            return []
        top = max(means.values(), key=lambda mean: sign * mean)
        written = {row: write_number(name, mean) for row, mean in means.items()}
        found = [row for row in means if written[row] == write_number(name, top)]
        return found if len(found) < len(means) else []


def direction(column: str) -> int:
    """Return 1 for a metric of which more is better, −1 of which less is; else 0."""
    name = column.lower()
    if LOWER.search(name):
        return -1
    return 1 if HIGHER.search(name) else 0


def write_estimate(name: str, figure: Estimate | None) -> str:
    """Write a cell."""
    return ABSENT if figure is None else figure.write(name)


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
        own = [[float(each[c]) for each in found if c in each] for c in columns]
        cells.append(tuple(map(estimate, own)))
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
        seeds = max((each.seeds for each in cells if each is not None), default=0)
        figures = [
            number
            for each in cells
            for number in ((each.mean, each.deviation) if each else (None, None))
        ]
        writer.writerow([*map(plain_cell, row), seeds, *figures])
    return file.getvalue()


def write_tex(table: MeanTable) -> str:
    """Write it with booktabs, the best in bold."""
    caption = " ".join(f"{table.title}. {table.note} {table.explanation}".split())
    return write_latex(table.text, table.name, caption, table.best)


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
                    name: None
                    if each is None
                    else {"mean": each.mean, "sd": each.deviation, "seeds": each.seeds}
                    for name, each in zip(table.columns, cells, strict=True)
                },
            }
            for row, cells in zip(table.rows, table.cells, strict=True)
        ],
    }
