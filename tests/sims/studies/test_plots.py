"""A plot shows means over seeds, and each seed."""

import statistics

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from server.report.plots import COLOURS
from sims.studies.plots import (
    Panel,
    columns_for,
    draw_panel,
    draw_panels,
    mean_table,
    spread_over_seeds,
)

FRAME = pd.DataFrame(
    {
        "seed": [0, 0, 1, 1, 0],
        "edits": [0, 10, 0, 10, 10],
        "gamma": ["a", "a", "a", "a", "b"],
        "success": [100.0, 80.0, 90.0, 40.0, 7.0],
        "nothing": [None] * 5,
    }
)
PANEL = Panel("success", "Success")


def drawn_lines(panel: Panel) -> dict[str, list[float]]:
    """Draw one panel and read its lines that have a name."""
    axes = Figure().add_subplot()
    lines = {name: FRAME[FRAME["gamma"] == name] for name in ("b", "none", "a")}
    draw_panel(axes, panel, "edits", lines)
    named = set(axes.get_legend_handles_labels()[1])
    return {
        str(line.get_label()): heights_of(line)
        for line in axes.get_lines()
        if line.get_label() in named
    }


def heights_of(line: Line2D) -> list[float]:
    """Read a line's points."""
    heights: list[float] = np.asarray(line.get_ydata()).tolist()
    return heights


def test_a_line_is_the_mean_over_seeds_and_what_is_absent_has_none() -> None:
    """Nor has a column without numbers."""
    assert drawn_lines(PANEL) == {"b": [7.0], "a": [95.0, 60.0]}
    assert drawn_lines(Panel("nothing", "Nothing")) == {}


def test_each_seed_is_a_faint_line_of_its_own() -> None:
    """In the colour of the place that the name has among all."""
    axes = Figure().add_subplot()
    draw_panel(axes, PANEL, "edits", {"none": FRAME[:0], "a": FRAME[:4]})
    faint = [line for line in axes.get_lines() if line.get_alpha()]
    assert [heights_of(line) for line in faint] == [[100, 80], [90, 40]]
    assert {line.get_color() for line in axes.get_lines()} == {COLOURS[1]}


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_repeat_byte_for_byte(count: int) -> None:
    """And differ where the numbers do."""

    def picture(frame: pd.DataFrame) -> str:
        return draw_panels(
            frame,
            [PANEL] * count,
            x="edits",
            x_label="later",
            lines="gamma",
            names=("a", "b"),
        )

    assert picture(FRAME) == picture(FRAME.copy())
    assert picture(FRAME) != picture(FRAME.assign(success=FRAME["success"] / 2))


def test_a_table_of_means_is_headed_by_the_panels_titles() -> None:
    """One row a name."""
    table = mean_table(FRAME, ["gamma"], [PANEL])
    assert list(table.columns) == ["Success"]
    assert table["Success"].to_dict() == {"a": 77.5, "b": 7.0}


def test_a_legend_has_as_many_columns_as_fit() -> None:
    """Long names take fewer; one column there is always."""
    assert columns_for(["γ = 0", "γ = 1"], 8.8) == 5
    assert columns_for(["collabedit", "simple-average, in turn"], 8.8) == 3
    assert columns_for(["x" * 100], 4.4) == 1


def test_an_error_bar_is_the_deviation_over_seeds() -> None:
    """Of a sample, around the mean; one seed has none, however many rows it has."""
    axes = Figure().add_subplot()
    draw_panel(axes, PANEL, "edits", {"a": FRAME[:4]})
    (drawn,) = axes.containers
    assert isinstance(drawn, ErrorbarContainer)
    bars = drawn.lines[2][0].get_segments()
    wanted = [(95, statistics.stdev([100, 90])), (60, statistics.stdev([80, 40]))]
    for ((_, low), (_, high)), (mean, deviation) in zip(bars, wanted, strict=True):
        assert (low, high) == pytest.approx((mean - deviation, mean + deviation))
    twice = pd.concat([FRAME[4:], FRAME[4:].assign(success=9.0)])
    assert spread_over_seeds(twice, "edits", "success").isna().all()
    axes = Figure().add_subplot()
    draw_panel(axes, PANEL, "edits", {"b": twice})
    assert not axes.containers
