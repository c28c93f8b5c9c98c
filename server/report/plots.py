"""The report's plots, as SVG that repeats byte for byte."""

import base64
import math
from collections.abc import Callable
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report.data import Report, RoundMetrics
from server.report.tables import SUCCESSES, TITLES

# Okabe and Ito's colours, told apart by readers with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "collabedit",
}
BAR_WIDTH = 0.2


MOST_TICKS = 10
PANELS = {
    "score": "Score of the round's own requests",
    "retention": "Retention of earlier rounds",
    "held_out_acc": "Held-out accuracy",
}


def draw_bars(report: Report) -> str:
    """Draw score and its three parts for each merge; a data URI."""

    def draw(figure: Figure) -> None:
        axes = add_axes(figure, (1, 1, 1))
        for place, name in enumerate(("score", *SUCCESSES)):
            heights = [getattr(run.metrics[-1], name) or 0.0 for run in report.runs]
            middles = [
                index + (place - 1.5) * BAR_WIDTH for index in range(len(heights))
            ]
            bars = axes.bar(
                middles,
                heights,
                BAR_WIDTH * 0.92,
                label=TITLES[name],
                color=COLOURS[place],
            )
            axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=2, color="#333333")
        axes.set_xticks(range(len(report.runs)), [run.merge for run in report.runs])
        axes.set_ylabel("per cent")
        axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1))

    return render(draw, width=1.5 + 1.7 * max(4, len(report.runs)))


def draw_rounds(report: Report) -> str:
    """Draw each panel against the round, a line a merge; a data URI."""
    names = choose_panels(report)

    def draw(figure: Figure) -> None:
        for place, name in enumerate(names, start=1):
            draw_panel(add_axes(figure, (1, len(names), place)), report, name)
        first = figure.axes[0]
        first.set_ylabel("per cent")
        figure.legend(
            *first.get_legend_handles_labels(),
            frameon=False,
            ncols=5,
            loc="outside upper center",
        )

    return render(draw, width=(8, 10.5, 13)[len(names) - 1])


def describe_rounds(report: Report) -> str:
    """Say what `draw_rounds` shows, for those who do not see it."""
    titles = [PANELS[name].lower() for name in choose_panels(report)]
    merges = ", ".join(run.merge for run in report.runs)
    return (
        f"Lines against the round, one for each merge ({merges}): {'; '.join(titles)}. "
        "The numbers are in the table below."
    )


def choose_panels(report: Report) -> list[str]:
    """Name what is drawn against the round: the score, and what else was measured."""
    metrics = [each for run in report.runs for each in run.metrics]
    return [
        name
        for name in PANELS
        if name == "score" or any(reading(each, name) is not None for each in metrics)
    ]


def reading(metrics: RoundMetrics, name: str) -> float | None:
    """Read the number of one round that a panel shows."""
    if name == "retention":
        return metrics.retained.rewrite_acc if metrics.retained else None
    value: float | None = getattr(metrics, name)
    return value


def draw_panel(axes: Axes, report: Report, name: str) -> None:
    """Draw one metric against the round, with a gap where nothing was evaluated."""
    for index, run in enumerate(report.runs):
        read = [reading(metrics, name) for metrics in run.metrics]
        axes.plot(
            range(1, len(read) + 1),
            [math.nan if value is None else value for value in read],
            label=run.merge,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            # The bound often lies exactly on another line and must not hide it.
            linestyle="--" if run.merge == "global" else "-",
            fillstyle="none" if run.merge == "global" else "full",
        )
    last = max(run.rounds for run in report.runs)
    step = math.ceil(last / MOST_TICKS)
    axes.set_xlim(0.7, last + 0.3)
    axes.set_xticks(range(step, last + 1, step))
    axes.set_xlabel("round")
    axes.set_title(PANELS[name], fontsize=10)


def add_axes(figure: Figure, place: tuple[int, int, int]) -> Axes:
    """Put axes from 0 to 100 per cent into a figure."""
    axes: Axes = figure.add_subplot(*place)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color="#E3E6EA")
    return axes


def render(draw: Callable[[Figure], None], width: float) -> str:
    """Draw a figure and pack the picture into a URI."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 3.8), layout="constrained")
        draw(figure)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
