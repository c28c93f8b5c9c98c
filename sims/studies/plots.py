"""Plots of a study: a line for each setting, and faint ones for its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report.plots import COLOURS, GRID, MARKERS, WHISKERS, render

PANEL_WIDTH, PANEL_HEIGHT = 4.4, 3.1
MAX_ACROSS = 2
MAX_TICKS = 12
MOST_COLUMNS, MARK_WIDTH, LETTER_WIDTH = 5, 0.6, 0.085
"""Of a legend: columns at most, and inches of a name's mark and of a letter."""
LETTERS = {
    **dict.fromkeys(
        (
            "rewrite_success",
            "later_success",
            "a_success",
            "b_success",
            "others_success",
        ),
        "ES",
    ),
    "paraphrase_success": "PS",
    "neighborhood_success": "NS",
    "neighbourhood": "NS",
}
"""The field's letters for efficacy, generalization and specificity, by column."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One column of a table, drawn against an axis that all panels share.

    Attributes:
        column: The column's name.
        title: What it is called, without the letters of `LETTERS`.
        per_cent: Whether the axis goes from 0 to 100, not from 0 to what there is.
        signed: Whether an axis of per cent goes down to -100.
    """

    column: str
    title: str
    per_cent: bool = True
    signed: bool = False

    @property
    def heading(self) -> str:
        """Return the title, with the field's letters for a success."""
        letters = LETTERS.get(self.column)
        added = letters and f"({letters})" not in self.title
        return f"{self.title} ({letters})" if added else self.title


def draw_panels(
    frame: pd.DataFrame,
    panels: Sequence[Panel],
    *,
    x: str,
    x_label: str,
    lines: str,
    names: Sequence[str],
) -> str:
    """Draw panels that share their lines, with a legend above; a data URI.

    Args:
        frame: Long form, with a column ``seed``.
        panels: What is drawn, each on axes of its own.
        x: The column of the shared axis.
        x_label: What that axis is called.
        lines: The column whose values are a line each.
        names: Those values; a name's place among them is its colour.
    """
    across = min(MAX_ACROSS, len(panels))
    down = -(-len(panels) // across)

    own = {name: frame[frame[lines] == name] for name in names}

    def draw(figure: Figure) -> None:
        figure.set_size_inches(PANEL_WIDTH * across, PANEL_HEIGHT * down + 0.4)
        grid = figure.subplots(down, across, squeeze=False)
        for panel, axes in zip(panels, grid.flat, strict=False):
            draw_panel(axes, panel, x, own)
            axes.set_xlabel(x_label)
        drawn = grid.flat[0].get_legend_handles_labels()
        columns = columns_for(names, PANEL_WIDTH * across)
        figure.legend(*drawn, frameon=False, ncols=columns, loc="outside upper center")

    return render(draw, PANEL_WIDTH * across)


def columns_for(names: Sequence[str], width: float) -> int:
    """How many columns of a legend fit in a width in inches; five at most."""
    longest = MARK_WIDTH + LETTER_WIDTH * max(map(len, names))
    return max(1, min(MOST_COLUMNS, int(width / longest)))


def draw_panel(
    axes: Axes, panel: Panel, x: str, lines: Mapping[str, pd.DataFrame]
) -> None:
    """Draw each line's mean over seeds ± their deviation, and each seed faintly."""
    places: set[float] = set()
    for index, (name, frame) in enumerate(lines.items()):
        drawn = frame[frame[panel.column].notna()]
        if drawn.empty:
            continue
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        for _, seed in drawn.groupby("seed"):
            one = seed.groupby(x)[panel.column].mean()
            axes.plot(one.index, one.to_numpy(), color=colour, alpha=0.3, linewidth=0.8)
        mean = drawn.groupby(x)[panel.column].mean()
        axes.plot(mean.index, mean.to_numpy(), label=name, color=colour, marker=marker)
        spread = spread_over_seeds(drawn, x, panel.column)
        if spread.notna().any():
            bars = {"fmt": "none", "color": colour, "ecolor": colour, **WHISKERS}
            axes.errorbar(mean.index, mean.to_numpy(), spread.to_numpy(), **bars)
        places |= set(mean.index)
    axes.set_title(panel.heading, fontsize=10)
    axes.grid(axis="y", color=GRID)
    if len(places) <= MAX_TICKS:
        axes.set_xticks(sorted(places))
    if panel.per_cent:
        axes.set_ylim(-104 if panel.signed else 0, 104)
        axes.set_ylabel("per cent")
    else:
        axes.set_ylim(bottom=0)


def spread_over_seeds(frame: pd.DataFrame, by: str, column: str) -> "pd.Series[float]":
    """Return the standard deviation over seeds by group; NaN where one seed is there.

    A seed counts with its mean: rows of one seed are no spread over seeds.
    """
    seeds = frame.groupby([by, "seed"])[column].mean()
    return seeds.groupby(level=by).std()


def mean_table(
    frame: pd.DataFrame, by: Sequence[str], panels: Sequence[Panel]
) -> pd.DataFrame:
    """Return the means over seeds of what panels show, under their headings."""
    columns = [panel.column for panel in panels]
    means = frame.groupby(list(by), sort=False)[columns].mean()
    return means.set_axis([panel.heading for panel in panels], axis="columns")
