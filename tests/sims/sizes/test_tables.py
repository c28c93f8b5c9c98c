"""Estimates are laid out as asked, and the page on operations has them."""

import json
from pathlib import Path

import pytest

from sims.cli.main import main
from sims.sizes.estimate import Estimate, EstimateOrder
from sims.sizes.shapes import PUBLISHED, ModelShape
from sims.sizes.tables import SIZES, rows_of, to_json, write_seconds, write_size
from tests.trees import ROOT

PAGE = ROOT / "docs" / "operations.md"
SHAPE = ModelShape("one", 1000, d_out=3, d_in=5, layers=(1, 2), blocks=4)


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run the command line and give what it writes, errors included."""
    with pytest.raises(SystemExit) as ended:
        main(["estimate", *arguments])
    assert ended.value.code == code
    written = capsys.readouterr()
    return written.out + written.err


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_page_has_the_tables_that_the_command_writes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the very command that stands there; lines of text may be broken elsewhere."""
    arguments = f"--model {name} --parties 10 --parties 100 --format markdown"
    page = PAGE.read_text(encoding="utf-8")
    assert f"$ python -m sims estimate {arguments}\n" in page
    caption, table = said_by(capsys, *arguments.split()).strip().split("\n\n")
    assert table in page
    assert caption in " ".join(page.split())


def test_a_table_has_a_row_for_each_figure_and_a_column_for_each_number_of_parties(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any model's folder; the terminal shows what the page would."""
    orders = [EstimateOrder(parties=count) for count in (1, 2, 3)]
    rows = rows_of([Estimate(SHAPE, order) for order in orders])
    assert len(rows) == len(SIZES) + 3
    assert {len(row) for row in rows} == {4}
    text = said_by(capsys, "--model", str(world), "--layers", "1", "--parties", "7")
    for shown in ("7 parties", "layers 1, each", *(name for name, _ in SIZES)):
        assert shown in " ".join(text.split())


def test_programs_get_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """In bytes and seconds, with all that they were made of."""
    found = Estimate(SHAPE, EstimateOrder(parties=4, dtype="bfloat16"))
    (record,) = json.loads(to_json([found]))
    assert record["bytes"] == {name: round(value(found)) for name, value in SIZES}
    assert record["seconds"] == found.round_seconds
    order = {name: record[name] for name in EstimateOrder.model_fields}
    assert EstimateOrder.model_validate(order) == found.order
    assert (record["d_out"], record["d_in"], record["layers"]) == (3, 5, [1, 2])
    options = ["--format", "json", "--encoding", "dense", "--bandwidth", "10"]
    (record,) = json.loads(said_by(capsys, *options))
    assert (record["model"], record["encoding"]) == ("gpt2-xl", "dense")
    assert (record["bandwidth"], record["parties"]) == (10.0, 10)


def test_what_cannot_be_estimated_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with exit code 2."""
    text = said_by(capsys, "--model", str(tmp_path), "--layers", "0", code=2)
    assert text.count("\n") == 1
    assert "no configuration of a model can be read" in text
    assert "--layers '3;4'" in said_by(capsys, "--layers", "3;4", code=2)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (65_536_000, "65.5 MB"),
        (999_400_000_000, "999 GB"),
        (2.5e12, "2.50 TB"),
    ],
)
def test_sizes_have_three_figures(size: float, text: str) -> None:
    """In units of ten, as disks are sold."""
    assert write_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.4, "1 s"), (119, "119 s"), (180, "3 min"), (9000, "2.5 h")]
)
def test_times_have_a_unit_that_suits_them(seconds: float, text: str) -> None:
    """Nobody reads 9000 seconds."""
    assert write_seconds(seconds) == text
