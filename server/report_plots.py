"""The report's plots, as SVG that repeats byte for byte."""

import base64
from collections.abc import Callable
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report import Report
from server.report_tables import SUCCESSES, TITLES

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


def draw_bars(report: Report) -> str:
    """Draw score and its three parts for each merge; a data URI."""

    def draw(axes: Axes) -> None:
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

    return render(draw, width=1.5 + 1.7 * max(3, len(report.runs)))


def draw_rounds(report: Report) -> str:
    """Draw the score after each round, a line a merge; a data URI."""

    def draw(axes: Axes) -> None:
        for index, run in enumerate(report.runs):
            scores = [metrics.score or 0.0 for metrics in run.metrics]
            axes.plot(
                range(1, len(scores) + 1),
                scores,
                label=run.merge,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                # The bound often lies exactly on another line and must not hide it.
                linestyle="--" if run.merge == "global" else "-",
            )
        axes.set_xticks(range(1, 1 + max(run.rounds for run in report.runs)))
        axes.set_xlabel("round")
        axes.set_ylabel("score")

    return render(draw, width=8)


def render(draw: Callable[[Axes], None], width: float) -> str:
    """Draw on an axis from 0 to 100 per cent and pack the picture into a URI."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.set_ylim(0, 108)
        axes.set_yticks(range(0, 101, 20))
        axes.grid(axis="y", color="#E3E6EA")
        draw(axes)
        axes.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1))
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
