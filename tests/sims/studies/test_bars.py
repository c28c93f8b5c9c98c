"""Bars are as high as what they stand for."""

import statistics
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from sims.studies import bars
from sims.studies.bars import draw_groups, draw_stacks, fold
from sims.studies.plots import Panel

PANELS = (Panel("first", "The first"), Panel("second", "The second"))
FRAME = pd.DataFrame(
    {
        "seed": [0, 1, 0, 1],
        "kind": ["b", "b", "a", "a"],
        "first": [10.0, 30.0, 50.0, 70.0],
        "second": [40.0, 60.0, None, None],
    }
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep figures in the place of their pictures."""
    kept: list[Figure] = []

    def keep(draw: Callable[[Figure], None], width: float) -> str:
        kept.append(Figure(figsize=(width, 3)))
        draw(kept[-1])
        return "data:"

    monkeypatch.setattr(bars, "render", keep)
    return kept


def test_a_group_has_a_bar_for_each_panel_that_has_numbers(drawn: list[Figure]) -> None:
    """The mean over seeds; groups in the order of the table."""
    draw_groups(FRAME, "kind", PANELS)
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["b", "a"]
    heights = [[bar.get_height() for bar in each] for each in axes.containers]
    assert heights[0] == [20, 60]
    assert heights[1] == pytest.approx([50, float("nan")], nan_ok=True)
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["20", "60", "50", ""]


def test_bars_of_a_group_stand_side_by_side(drawn: list[Figure]) -> None:
    """Around the group's middle, none over another."""
    draw_groups(FRAME, "kind", PANELS)
    (axes,) = drawn[0].axes
    first, second = (each[0] for each in axes.containers)
    assert first.get_x() + first.get_width() <= second.get_x()
    assert first.get_x() < 0 < second.get_x() + second.get_width()


def test_each_seed_is_a_dot_on_its_bar(drawn: list[Figure]) -> None:
    """At its own height."""
    draw_groups(FRAME, "kind", PANELS)
    (axes,) = drawn[0].axes
    places = np.array(axes.collections[0].get_offsets())
    assert places[:, 1].tolist() == [10, 30, 50, 70]
    bar = axes.containers[0][0]
    assert bar.get_x() < places[0, 0] < bar.get_x() + bar.get_width()


def test_a_line_on_a_bar_is_the_deviation_over_seeds(drawn: list[Figure]) -> None:
    """Around its height; nothing is drawn of one seed."""
    draw_groups(FRAME, "kind", PANELS[:1])
    (axes,) = drawn[0].axes
    deviation = statistics.stdev([10.0, 30.0])
    lines = axes.collections[1].get_segments()  # type: ignore[attr-defined]
    ends = sorted((low, high) for (_, low), (_, high) in lines)
    wanted = [(mean - deviation, mean + deviation) for mean in (20, 60)]
    assert np.array(ends) == pytest.approx(np.array(wanted))
    draw_groups(FRAME[FRAME["seed"] == 0], "kind", PANELS[:1])
    assert len(drawn[1].axes[0].collections) == 1


def test_shares_stand_on_top_of_each_other(drawn: list[Figure]) -> None:
    """On axes of their own for each frame, up to their sum."""
    shares = {"first": "One", "second": "Other"}
    other = FRAME.assign(second=[1.0, 3.0, 4.0, 8.0])
    draw_stacks({"then": FRAME, "now": other}, "kind", shares)
    then, now = drawn[0].axes
    assert (then.get_title(), now.get_title()) == ("then", "now")
    below, above = now.containers
    assert [bar.get_height() for bar in above] == [2, 6]
    assert [bar.get_y() for bar in above] == [bar.get_height() for bar in below]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [
        "One",
        "Other",
    ]


def test_long_names_of_groups_are_broken_into_lines() -> None:
    """No letter is lost, and a name without a space stays whole up to its width."""
    assert fold("γ = 1") == "γ = 1"
    assert fold("simple-average, in turn") == "simple-\naverage, in\nturn"
    assert fold("") == ""
