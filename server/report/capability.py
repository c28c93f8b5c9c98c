"""The capability curve: what the model can do besides its edits, as these add up."""

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from server.report.data import Report, RoundMetrics
from server.report.plots import COLOURS, GRID, MARKERS, render
from server.report.tables import ABSENT, TableText, headings

CAPABILITY_CAPTION = (
    "Measured on the server, by the number of edits; 0 is the unedited model"
)
ROW = ("merge", "round", "edits")
CAPABILITY_WORDS = (
    "Capability",
    "What the model can do besides its edits: the perplexity of a text, exp of its "
    "mean surprise by token (lower is better), and tasks of lm-evaluation-harness.",
)


def measure_points(report: Report) -> pd.DataFrame:
    """Tabulate all points of the curve: a row each, a column a metric.

    The unedited model is every merge's first point. There is no row if nothing was
    measured.
    """
    rows = [row for place in range(len(report.runs)) for row in _rows_of(report, place)]
    return pd.DataFrame(rows)


def _rows_of(report: Report, place: int) -> Iterator[dict[str, object]]:
    run, edits = report.runs[place], 0
    before = report.unedited or RoundMetrics()
    for number, metrics in enumerate([before, *run.metrics]):
        edits += (metrics.requests or 0) if number else 0
        if metrics.capability:
            yield dict(zip(ROW, (run.merge, number, edits), strict=True)) | dict(
                metrics.capability
            )


def lay_out_capability(report: Report) -> TableText:
    """Lay out the curve's numbers; it is empty if there is none."""
    frame = measure_points(report)
    names = metrics_of(frame)
    rows = [
        [*(str(row[name]) for name in ROW), *(write(row[name]) for name in names)]
        for _, row in frame.iterrows()
    ]
    return TableText([*headings(ROW), *headings(names)], rows, len(ROW))


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are metrics."""
    return [str(name) for name in frame if name not in ROW]


def write(value: float) -> str:
    """Write one number; perplexities and shares differ by many powers of ten."""
    return ABSENT if pd.isna(value) else f"{value:.4g}"


def draw_capability(report: Report) -> str:
    """Draw each metric against the number of edits, a line a merge; a data URI.

    There is no picture if nothing was measured.
    """
    frame = measure_points(report)
    names = metrics_of(frame)
    if not names:
        return ""

    def draw(figure: Figure) -> None:
        for place, name in enumerate(names, start=1):
            axes = figure.add_subplot(1, len(names), place)
            for index, (merge, own) in enumerate(frame.groupby("merge", sort=False)):
                axes.plot(
                    own["edits"],
                    own[name],
                    label=str(merge),
                    color=COLOURS[index % len(COLOURS)],
                    marker=MARKERS[index % len(MARKERS)],
                    # The bound often coincides with another line, and must not hide it.
                    linestyle="--" if merge == "global" else "-",
                    fillstyle="none" if merge == "global" else "full",
                )
            axes.grid(axis="y", color=GRID)
            if spans_powers(frame[name]):
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, 1.1 * max(frame[name].max(), 1e-9))
            axes.set_xlabel("edits")
            axes.set_title(headings([name])[0], fontsize=10)
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, frameon=False, ncols=5, loc="outside upper center")

    return render(draw, width=1.5 + 3.8 * len(names))


def spans_powers(values: "pd.Series[float]") -> bool:
    """Return whether a metric grows so much that a plain axis would show one point."""
    known = [each for each in values if not math.isnan(each)]
    return min(known) > 0 and max(known) > 100 * min(known)


def describe_capability(report: Report) -> str:
    """Describe the picture, for readers who do not see it."""
    names = headings(metrics_of(measure_points(report)))
    return (
        f"Lines against the number of edits, one for each merge: {'; '.join(names)}. "
        "The numbers are in the table below."
    )


def write_csv(report: Report) -> str:
    """Write the curve as CSV, a line a number with its definition; empty without."""
    frame = measure_points(report)
    names = metrics_of(frame)
    if not names:
        return ""
    ids = {run.merge: run.definitions for run in report.runs}
    long = frame.melt([*ROW], names, "metric", "value").dropna(ignore_index=True)
    long["definition"] = [
        ids[merge].get(name, "")
        for merge, name in zip(long["merge"], long["metric"], strict=True)
    ]
    return long.to_csv(index=False, lineterminator="\n")
