"""How options of several commands are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from editing.base.errors import InputError
from sims.cli.options import check_new_file, check_new_folder, parse_layers, takes


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a made-up command."""

    place: Annotated[Path, typer.Option(help="Where.")]
    number: Annotated[int, typer.Option(min=1, help="How many.")] = 3


def test_a_command_takes_its_options_as_one_value() -> None:
    """Each field is an option with its type, bounds, default and help."""
    received: list[Options] = []
    app = typer.Typer()

    @app.command()
    @takes(Options)
    def work(options: Options) -> None:
        """Do it."""
        received.append(options)

    run = CliRunner().invoke
    assert run(app, ["--place", "here"]).exit_code == 0
    assert run(app, ["--place", "here", "--number", "4"]).exit_code == 0
    assert received == [
        Options(place=Path("here")),
        Options(place=Path("here"), number=4),
    ]
    assert run(app, []).exit_code == 2
    assert run(app, ["--place", "here", "--number", "0"]).exit_code == 2
    shown = run(app, ["--help"]).output
    for words in ("Do it.", "--place", "Where.", "--number", "default: 3"):
        assert words in shown


@pytest.mark.parametrize("check", [check_new_file, check_new_folder])
def test_a_place_for_results_is_validated_and_nothing_is_made(
    check: type, tmp_path: Path
) -> None:
    """An existing path and a path below a file are refused, new folders are not."""
    (tmp_path / "file").touch()
    check(tmp_path / "new")
    check(tmp_path / "not" / "yet" / "there")
    with pytest.raises(InputError, match="never overwritten"):
        check(tmp_path / "file")
    with pytest.raises(InputError, match="file is a file"):
        check(tmp_path / "file" / "below" / "it")
    with pytest.raises(InputError, match=r"/proc/x\.json: cannot be made"):
        check(Path("/proc/x.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", "x", "1,1", "1,,2"])
def test_layers_are_distinct_numbers(text: str) -> None:
    """Anything else is refused."""
    assert parse_layers("3,4, 5") == (3, 4, 5)
    with pytest.raises(InputError, match="wanted distinct numbers"):
        parse_layers(text)
