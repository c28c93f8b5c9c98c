"""The report's plots, as SVG that is reproducible byte for byte."""

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator

from server.report.data import Report, RoundMetrics
from server.report.intervals import find_interval
from server.report.tables import comparison, headings, headline

# Okabe and Ito's colours, distinct for readers with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, GRID = "#1C2733", "#E3E6EA"
DARK = {
    INK: "#E4E9EE",
    GRID: "#35414D",
    "#000000": "#FFFFFF",
    "#0072B2": "#4AA3DF",
}
"""The colours that a dark page replaces."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "collabedit",
    "pdf.fonttype": 42,  # type 3, the default, is refused by many journals
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
        ),
        INK,
    ),
}
WHISKERS: dict[str, Any] = {"capsize": 2, "elinewidth": 0.8, "capthick": 0.8}
STAGGER = 0.3
"""How far apart the lines of one round may be, in rounds, so that bars are seen."""

GROUP_WIDTH = 0.8
LEGEND_WIDTH = 2.4
"""Of a name in a legend, in inches."""

MAX_TICKS = 10
MAX_ACCURACY_PANELS = 2
PANELS = {
    "score": "Score of the round's own requests",
    "retention": "Retention of earlier rounds",
    "held_out_acc": "Held-out accuracy",
    "budget": "The editor's budget in use",
}


def draw_bars(report: Report) -> str:
    """Draw the metrics by which merges are compared; a data URI.

    A metric that a merge lacks has no bar. Without any metric there is no picture.
    """
    frame, names = last_round(report), headline(report)
    if frame[names].isna().all(axis=None):
        return ""
    width = GROUP_WIDTH / len(names)

    def draw(figure: Figure) -> None:
        axes = add_axes(figure, (1, 1, 1))
        for place, name in enumerate(names):
            shift = (place - (len(names) - 1) / 2) * width
            heights = [math.nan if pd.isna(each) else each for each in frame[name]]
            bars = axes.bar(
                [index + shift for index in range(len(heights))],
                heights,
                width * 0.92,
                yerr=reach([run.metrics[-1] for run in report.runs], name, heights),
                error_kw={**WHISKERS, "ecolor": INK},
                label=headings([name])[0],
                color=COLOURS[place],
            )
            labels = ["" if math.isnan(each) else f"{each:.0f}" for each in heights]
            axes.bar_label(bars, labels, fontsize=8, padding=2, color=INK)
        axes.set_xticks(range(len(frame)), list(frame.index))
        axes.set_xlim(-0.6, len(frame) - 0.4)
        axes.set_ylabel("per cent")
        across = len(names) if size > LEGEND_WIDTH * len(names) else 2
        axes.legend(
            frameon=False, ncols=across, loc="lower center", bbox_to_anchor=(0.5, 1)
        )

    size = 1.5 + 1.7 * max(4, len(report.runs))
    return render(draw, width=size)


def reach(
    metrics: Sequence[RoundMetrics], name: str, values: Sequence[float]
) -> list[list[float]] | None:
    """Return how far intervals reach below and above values; None if there are none.

    Args:
        metrics: Where each value is from.
        name: Of a metric.
        values: Its own; NaN where there is none.
    """
    found = [find_interval(each, name) for each in metrics]
    if not any(found):
        return None
    ends = [each or (value, value) for each, value in zip(found, values, strict=True)]
    return [
        [value - low for (low, _), value in zip(ends, values, strict=True)],
        [high - value for (_, high), value in zip(ends, values, strict=True)],
    ]


def has_intervals(report: Report) -> bool:
    """Return whether pictures show an interval."""
    rounds = [each for run in report.runs for each in run.metrics]
    names = headline(report)
    return any(find_interval(each, name) for each in rounds for name in names)


def last_round(report: Report) -> pd.DataFrame:
    """Return the metrics after the last round, a row a merge."""
    return comparison(report.model_copy(update={"unedited": None}))


def title_bars(report: Report) -> str:
    """Return the title of what `draw_bars` shows."""
    scored = "score" in headline(report)
    return "Score and its three parts" if scored else "Accuracies"


def describe_bars(report: Report) -> str:
    """Describe what `draw_bars` shows, for readers who do not see it."""
    names = ", ".join(heading.lower() for heading in headings(headline(report)))
    return f"Bars for each merge: {names}. The numbers are in the table above."


def draw_rounds(report: Report) -> str:
    """Draw each panel against the round, a line a merge; a data URI."""
    names = choose_panels(report)

    def draw(figure: Figure) -> None:
        for place, name in enumerate(names, start=1):
            axes = add_axes(figure, (1, len(names), place))
            draw_panel(axes, report, name)
            if name == "budget":  # it may be exceeded
                axes.yaxis.set_major_locator(AutoLocator())
                axes.set_ylim(0, None)
                axes.autoscale(axis="y")
        first = figure.axes[0]
        first.set_ylabel("per cent")
        figure.legend(
            *first.get_legend_handles_labels(),
            frameon=False,
            ncols=5,
            loc="outside upper center",
        )

    return render(draw, width=5.5 + 2.5 * len(names))


def describe_rounds(report: Report) -> str:
    """Describe what `draw_rounds` shows, for readers who do not see it."""
    titles = [title_panel(name).lower() for name in choose_panels(report)]
    merges = ", ".join(run.merge for run in report.runs)
    return (
        f"Lines against the round, one for each merge ({merges}): {'; '.join(titles)}. "
        "The numbers are in the table below."
    )


def choose_panels(report: Report) -> list[str]:
    """Return the metrics that are drawn against the round.

    The score, or accuracies where no score is defined; then what else was measured.
    """
    metrics = [each for run in report.runs for each in run.metrics]
    first = ["score"]
    if "score" not in headline(report):
        first = headline(report)[:MAX_ACCURACY_PANELS]
    measured = [
        name
        for name in ("retention", "held_out_acc", "budget")
        if any(reading(each, name) is not None for each in metrics)
    ]
    return [*first, *measured]


def title_panel(name: str) -> str:
    """Return the title of a panel."""
    return PANELS.get(name) or headings([name])[0]


def reading(metrics: RoundMetrics, name: str) -> float | None:
    """Return the number of one round that a panel shows."""
    ((own,), name) = source([metrics], name)
    value: float | None = getattr(own, name, own.groups.get(name))
    return value


def source(
    metrics: Sequence[RoundMetrics], name: str
) -> tuple[list[RoundMetrics], str]:
    """Return where a panel's numbers are from: metrics, and a name in them."""
    if name != "retention":
        return list(metrics), name
    return [each.retained or RoundMetrics() for each in metrics], "rewrite_acc"


def draw_panel(axes: Axes, report: Report, name: str) -> None:
    """Draw one metric against the round, with a gap where nothing was evaluated."""
    for index, run in enumerate(report.runs):
        read = [reading(metrics, name) for metrics in run.metrics]
        values = [math.nan if value is None else value for value in read]
        own, of = source(run.metrics, name)
        reached = reach(own, of, values)
        shift = (index - (len(report.runs) - 1) / 2) * STAGGER / len(report.runs)
        shift = shift if reached else 0.0
        places = [number + shift for number in range(1, len(read) + 1)]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(
            places,
            values,
            label=run.merge,
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            # The bound often coincides with another line and must not hide it.
            linestyle="--" if run.merge == "global" else "-",
            fillstyle="none" if run.merge == "global" else "full",
        )
        if reached:
            axes.errorbar(
                places, values, reached, fmt="none", ecolor=colour, **WHISKERS
            )
    last = max(run.rounds for run in report.runs)
    step = math.ceil(last / MAX_TICKS)
    axes.set_xlim(0.7, last + 0.3)
    axes.set_xticks(range(step, last + 1, step))
    axes.set_xlabel("round")
    axes.set_title(title_panel(name), fontsize=10)


def add_axes(figure: Figure, place: tuple[int, int, int]) -> Axes:
    """Add axes from 0 to 100 per cent to a figure."""
    axes: Axes = figure.add_subplot(*place)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color=GRID)
    return axes


_DRAWN = ContextVar("drawn", default=True)


@contextmanager
def no_pictures() -> Iterator[None]:
    """Draw nothing within the block: who wants the tables of figures need not wait."""
    token = _DRAWN.set(False)
    try:
        yield
    finally:
        _DRAWN.reset(token)


class Picture(str):
    """A picture as a data URI that follows a dark page, and as a file for print."""

    _draw: Callable[[Figure], None]
    _width: float

    def __new__(cls, draw: Callable[[Figure], None], width: float) -> "Picture":
        """Draw it, so many inches wide."""
        if not _DRAWN.get():
            return super().__new__(cls)
        svg = adapt_to_dark(save_figure(draw, width, "svg").decode())
        encoded = base64.b64encode(svg.encode()).decode()
        picture = super().__new__(cls, "data:image/svg+xml;base64," + encoded)
        picture._draw, picture._width = draw, width
        return picture

    def save(self, form: Literal["svg", "pdf"]) -> bytes:
        """Draw it again, in the colours of a light page."""
        return save_figure(self._draw, self._width, form)


def save_figure(
    draw: Callable[[Figure], None], width: float, form: Literal["svg", "pdf"]
) -> bytes:
    """Draw a figure, the same bytes every time."""
    dates = {"svg": "Date", "pdf": "CreationDate"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 3.8), layout="constrained")
        draw(figure)
        buffer = BytesIO()
        figure.savefig(buffer, format=form, metadata={dates[form]: None})
    return buffer.getvalue()


def render(draw: Callable[[Figure], None], width: float) -> Picture:
    """Draw a figure and return the picture as a data URI."""
    return Picture(draw, width)


def adapt_to_dark(svg: str) -> str:
    """Give a picture the colours of `DARK` where the reader prefers dark pages."""
    names = {light.lower(): f"--c{light[1:].lower()}" for light in DARK}
    for light, name in names.items():
        svg = svg.replace(f": {light}", f": var({name})")
    light = "".join(f"{name}:{colour};" for colour, name in names.items())
    dark = "".join(f"{names[key.lower()]}:{DARK[key]};" for key in DARK)
    style = (
        f"<style>svg{{{light}}}"
        f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    )
    head, tag, rest = svg.partition("<svg ")
    attributes, end, body = rest.partition(">")
    return f"{head}{tag}{attributes}{end}{style}{body}"
