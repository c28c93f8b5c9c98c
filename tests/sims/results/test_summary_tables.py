"""A summary says the same in every form."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from editing.base.errors import InputError
from sims.console import PIPE_WIDTH
from sims.results.averages import Summary, SummaryRow
from sims.results.folders.runs import Fault
from sims.results.summary_tables import (
    EXPLANATION,
    FORMS,
    MAX_FAULTS,
    SECTIONS,
    check_form,
    draw,
    list_faults,
    shorten,
    write_csv,
    write_markdown,
    write_text,
)

SUCCESSES = ("rewrite_success", "paraphrase_success", "neighborhood_success")
NUMBERS = dict.fromkeys(("score", *SUCCESSES), 98.76) | {"rewrite_diff": 0.1234}
ROWS = (
    SummaryRow(
        "MEMIT|a/collaborative_edit (2 runs)",
        2,
        20,
        NUMBERS,
        dict.fromkeys(NUMBERS, 1.25),
    ),
    SummaryRow("zsre[b]/run_000", 1, 10, {"rewrite_acc": 50.0}, {}),
)


def make_summary(faults: int = 0) -> Summary:
    """Make two rows, and faults in files named by numbers."""
    return Summary(
        ROWS, tuple(Fault(Path(f"/x/case_{n}.json"), "not JSON") for n in range(faults))
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, MAX_FAULTS, MAX_FAULTS + 2])
def test_every_form_ends_with_what_was_not_read(form: str, count: int) -> None:
    """Named up to a limit, and counted all."""
    written = FORMS[form](make_summary(count))
    *_, opening = [line for line in written.split("\n") if "not read:" in line]
    assert f"{count} file" in opening
    rest = written.split(opening)[1]
    assert rest.replace(r"\_", "_").count("case_") == min(count, MAX_FAULTS)
    assert ("and 2 more" in rest) == (count > MAX_FAULTS)
    assert "not read" not in FORMS[form](make_summary())


@pytest.mark.parametrize("form", [write_text, write_markdown])
def test_numbers_stand_with_their_deviations(
    form: Callable[[Summary], str],
) -> None:
    """And a metric without one stands alone, and one without a value as a dash."""
    written = form(make_summary())
    assert "98.8 ± 1.2" in written
    assert "0.123 ± 1.250" in written
    assert "50.0 ±" not in written
    assert "–" in written
    assert EXPLANATION in written


def test_csv_holds_the_numbers_in_full() -> None:
    """And is read back with what was not read as a comment."""
    text = write_csv(make_summary(2))
    frame = pd.read_csv(io.StringIO(text), comment="#").set_index("results")
    assert list(frame.index) == [row.label for row in ROWS]
    for row in ROWS:
        found = frame.loc[row.label].dropna()
        for name, value in row.means.items():
            assert found[name] == value
        for name, value in row.deviations.items():
            assert found[f"{name}.deviation"] == value
        count = 4 + len(row.means) + len(row.deviations) - 1
        assert len(found) == count
        assert tuple(found[["runs", "cases", "deviation_over"]]) == (
            row.runs,
            row.cases,
            row.over,
        )


def test_a_cell_of_csv_is_one_cell_whatever_the_name() -> None:
    """Commas and quotation marks of folders do not move the columns."""
    row = SummaryRow('a,"b"', 1, 1, {"rewrite_acc": 1.0}, {})
    heads, cells = csv.reader(io.StringIO(write_csv(Summary((row,), ()))))
    assert cells[0] == 'a,"b"'
    assert len(heads) == len(cells)


def test_markdown_has_one_table_with_rows_of_one_width() -> None:
    """A bar in a name does not cut its cell."""
    lines = write_markdown(make_summary()).replace("\\|", "").split("\n")
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    assert len({line.count("|") for line in table}) == 1


def test_tables_fit_a_pipe_and_brackets_are_no_markup() -> None:
    """One table a section that has numbers."""
    console = Console(file=io.StringIO(), width=PIPE_WIDTH)
    draw(make_summary(), console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "98.8 ± 1.2" in shown
    tables = shown.removesuffix(EXPLANATION + "\n")
    assert max(map(len, tables.split("\n"))) <= PIPE_WIDTH
    assert "zsre[b]/run_000" in shown
    with_numbers = {"Score and successes", "Accuracies", "Differences of probability"}
    assert {title for title in SECTIONS if title in shown} == with_numbers


def test_a_text_of_several_lines_is_one_line() -> None:
    """So that lines can be counted."""
    faults = [Fault(Path("/a/b\nc.json"), "not\nJSON")]
    assert list_faults(faults)[1:] == ["/a/b c.json: not JSON"]


def test_a_path_below_is_written_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And another in full."""
    monkeypatch.chdir(tmp_path)
    assert shorten(tmp_path / "a" / "b.json") == Path("a/b.json")
    assert shorten(tmp_path.parent / "b.json") == tmp_path.parent / "b.json"


def test_an_ending_of_no_form_is_refused() -> None:
    """With those there are."""
    check_form(Path("table.md"))
    with pytest.raises(InputError, match=r"table.xlsx: .* \.csv, \.html, \.md, \.tex"):
        check_form(Path("table.xlsx"))


NASTY = ("=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "\uff1d1")


@pytest.mark.parametrize("name", NASTY)
def test_no_cell_of_csv_begins_a_formula(name: str) -> None:
    """Neither a folder's name nor what is said of a file that was not read."""
    row = SummaryRow(name, 1, 1, {}, {})
    faults = (Fault(Path(f"a,{name},b"), f"because,{name}"),)
    lines = csv.reader(io.StringIO(write_csv(Summary((row,), faults))))
    cells = [cell for line in lines for cell in line]
    assert f"'{name}" in cells
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\n\uff1d"))]
