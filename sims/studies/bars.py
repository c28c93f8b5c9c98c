"""Bars of a study: groups side by side, or stacked shares."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report.plots import COLOURS, INK, add_axes, render
from sims.studies.plots import Panel, columns_for, spread_over_seeds

GROUP_WIDTH = 0.84
MIN_WIDTH = 9.0
TICK_WIDTH, TICK_LETTERS = 1.0, 14
"""The least width of a group in inches, and the letters in a line of its name."""

NEUTRAL = "#C9CFD6"


def draw_groups(frame: pd.DataFrame, group: str, panels: Sequence[Panel]) -> str:
    """Draw a group of bars for each value of a column, a dot a seed; a data URI.

    Args:
        frame: Long form, with a column ``seed``.
        group: The column whose values are a group each, in their order.
        panels: The columns that are a bar of each group; one without a number has none.
    """
    names = list(dict.fromkeys(frame[group]))
    width = GROUP_WIDTH / len(panels)

    def draw(figure: Figure) -> None:
        axes = add_axes(figure, (1, 1, 1))
        for place, panel in enumerate(panels):
            shift = (place - (len(panels) - 1) / 2) * width
            middles = {name: index + shift for index, name in enumerate(names)}
            draw_bar(axes, frame, group, panel, middles, width, COLOURS[place])
        axes.set_xticks(range(len(names)), [fold(name) for name in names], fontsize=8)
        axes.set_ylabel("per cent")
        columns = columns_for([panel.heading for panel in panels], size)
        drawn = axes.get_legend_handles_labels()
        figure.legend(*drawn, frameon=False, ncols=columns, loc="outside upper center")

    size = max(MIN_WIDTH, 1.2 + max(0.23 * len(panels), TICK_WIDTH) * len(names))
    return render(draw, width=size)


def fold(name: object) -> str:
    """Break a group's name into lines as wide as a group is at least."""
    return "\n".join(textwrap.wrap(str(name), TICK_LETTERS)) or str(name)


def draw_bar(
    axes: Axes,
    frame: pd.DataFrame,
    group: str,
    panel: Panel,
    middles: Mapping[str, float],
    width: float,
    colour: str,
) -> None:
    """Draw one bar of each group, its seeds upon it, and ± their deviation."""
    means = frame.groupby(group)[panel.column].mean()
    heights = [float(means[name]) for name in middles]
    axes.bar(
        list(middles.values()), heights, width * 0.92, label=panel.heading, color=colour
    )
    places = [middles[name] for name in frame[group]]
    axes.scatter(places, frame[panel.column], s=5, color=INK, alpha=0.6, zorder=3)
    found = spread_over_seeds(frame, group, panel.column)
    spread = found.reindex(means.index).fillna(0.0)
    ends = [
        (middles[name], means[name] - spread[name], means[name] + spread[name])
        for name in middles
        if spread[name] > 0
    ]
    if ends:
        axes.vlines(*zip(*ends, strict=True), color=INK, linewidth=0.9, zorder=3)
    tops = frame.groupby(group)[panel.column].max().combine(means + spread, max)
    for name, height in zip(middles, heights, strict=True):
        write_above(axes, middles[name], height, float(tops[name]))


def write_above(axes: Axes, place: float, height: float, top: float) -> None:
    """Write a bar's height above all that stands on it; of no bar, nothing."""
    known = not np.isnan(height)
    axes.annotate(
        f"{height:.0f}" if known else "",
        (place, top if known else 0.0),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=7,
        color=INK,
    )


def draw_stacks(
    frames: Mapping[str, pd.DataFrame], group: str, shares: Mapping[str, str]
) -> str:
    """Draw shares on top of each other, axes of their own for each frame; a data URI.

    Args:
        frames: By title, long form.
        group: The column whose values are a bar each, in their order.
        shares: The columns that add up to a bar, and their names; the last is in grey.
    """
    colours = [*COLOURS[: len(shares) - 1], NEUTRAL]

    def draw(figure: Figure) -> None:
        for place, (title, frame) in enumerate(frames.items(), start=1):
            axes = add_axes(figure, (1, len(frames), place))
            means = frame.groupby(group, sort=False)[list(shares)].mean()
            below = np.zeros(len(means))
            for (column, name), colour in zip(shares.items(), colours, strict=True):
                heights = means[column].to_numpy()
                bars = axes.bar(
                    list(means.index), heights, 0.7, below, label=name, color=colour
                )
                labels = [f"{each:.0f}" if each >= 4 else "" for each in heights]
                axes.bar_label(bars, labels, label_type="center", fontsize=8)
                below = below + heights
            axes.set_title(title, fontsize=10)
            axes.set_ylabel("per cent")
        drawn = figure.axes[0].get_legend_handles_labels()
        figure.legend(*drawn, frameon=False, ncols=5, loc="outside upper center")

    return render(draw, width=5.0 * len(frames))
