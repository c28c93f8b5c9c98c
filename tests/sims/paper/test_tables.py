"""Tables over seeds, against the naive definitions."""

import csv
import io
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sims.paper.tables import (
    MeanTable,
    combine,
    describe,
    direction,
    estimate,
    write_csv,
    write_markdown,
    write_tex,
)

ROWS = ["(unedited)", "collabedit", "ties", "global"]
NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 6))


def make_frame(**columns: Sequence[float | str]) -> pd.DataFrame:
    """Make a table of one seed."""
    return pd.DataFrame(columns, index=pd.Index(ROWS, name="merge"))


def make_table(*frames: pd.DataFrame) -> MeanTable:
    """Average tables over seeds, which are numbered from 0."""
    ids = {"score": "counterfact.score.harmonic-mean.v1", "other": "x.v1"}
    return combine(dict(enumerate(frames)), "single", "One round", "In per cent.", ids)


@given(st.lists(NUMBERS, min_size=2, max_size=6))
def test_a_figure_is_the_mean_and_the_sample_deviation(values: list[float]) -> None:
    """``√(Σ (x − m)² / (n − 1))``, of what is a number."""
    found = estimate([*values, math.nan])
    assert found is not None
    mean = sum(values) / len(values)
    square = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.deviation == pytest.approx(math.sqrt(square), abs=1e-6)
    assert found.seeds == len(values)
    assert estimate([math.nan]) is None


def test_one_seed_has_no_deviation() -> None:
    """It cannot be known."""
    table = make_table(make_frame(score=[0.0, 90.0, 4.0, 91.0]))
    assert table.text.rows[1] == ["collabedit", "90.0"]
    assert "Of the seed 0 alone" in table.explanation


def test_tables_are_averaged_cell_by_cell() -> None:
    """Rows and columns in first order; a row that one seed lacks is of the others."""
    first = make_frame(score=[0.0, 90.0, 4.0, 91.0])
    second = make_frame(score=[0.0, 92.0, 6.0, 93.0]).drop("ties")
    table = make_table(first, second)
    assert [row[1] for row in table.text.rows] == [
        "0.0 ± 0.0",
        "91.0 ± 1.4",
        "4.0",
        "92.0 ± 1.4",
    ]
    assert table.definitions == {"score": "counterfact.score.harmonic-mean.v1"}


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("score", [99.0, 90.0, 4.0, 95.0], {"collabedit"}),
        ("score", [99.0, 90.01, 90.02, 95.0], set()),
        ("relative_difference_to_global", [0.0, 1e-6, 0.8, 0.0], {"collabedit"}),
        ("rewrite_success", [0.0, 4.0, 90.0, 95.0], {"ties"}),
        ("requests", [1.0, 2.0, 3.0, 4.0], set()),
    ],
)
def test_the_best_is_in_bold(name: str, values: list[float], best: set[str]) -> None:
    """As it is written; the unedited model and one machine are for reference."""
    table = make_table(make_frame(**{name: list(values)}))
    assert {table.rows[row][0] for row, _ in table.best} == best
    assert write_tex(table).count(r"\textbf{") == len(best)
    assert write_markdown(table).count("**") == 2 * len(best)


def test_parts_of_a_label_are_references_too() -> None:
    """As in tables whose rows are named after editor and merge."""
    frame = make_frame(score=[0.0, 90.0, 4.0, 91.0])
    table = make_table(frame.set_axis([f"memit, {row}" for row in ROWS]))
    assert {table.rows[row][0] for row, _ in table.best} == {"memit, collabedit"}


def test_directions_of_common_metrics() -> None:
    """More is better, less is, or neither."""
    names = ["Efficacy (ES)", "Score at 10", "rewrite_generated_exact", "retention"]
    assert [direction(name) for name in names] == [1, 1, 1, 1]
    assert direction("‖z − h‖ left") == direction("seconds") == -1
    assert direction("requests") == 0


def test_csv_holds_every_figure_in_full_and_no_formula() -> None:
    """So that the table can be computed with again."""
    frames = [make_frame(score=[0.1 * seed, 1 / 3, 2.0, 3.0]) for seed in (1, 2)]
    frames = [frame.rename(index={"ties": "=ties"}) for frame in frames]
    head, *rows = csv.reader(io.StringIO(write_csv(make_table(*frames))))
    assert head == ["Merge", "seeds", "score", "score.deviation"]
    assert [row[0] for row in rows] == ["(unedited)", "collabedit", "'=ties", "global"]
    means = [float(row[2]) for row in rows]
    assert means == [pytest.approx(0.15), 1 / 3, 2.0, 3.0]
    assert float(rows[0][3]) == pytest.approx(np.std([0.1, 0.2], ddof=1))
    assert {row[1] for row in rows} == {"2"}


def test_words_of_a_study_stay_words() -> None:
    """Each once, and never the best."""
    frames = [
        make_frame(seen=["no", "no", "yes", "no"], score=[0.0, 1.0, 2.0, 3.0]),
        make_frame(seen=["no", "no", "no", "no"], score=[0.0, 1.0, 2.0, 3.0]),
    ]
    table = make_table(*frames)
    assert [row[1] for row in table.text.rows] == ["no", "no", "yes; no", "no"]
    assert describe(table)["definitions"] == table.definitions
    assert all(column == 2 for _, column in table.best)
