"""Options of several commands, and how they are read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
DEFAULT_SCENARIO = SCENARIOS / "default.toml"


class Engine(StrEnum):
    """What carries the messages between server and parties."""

    FLOWER = "flower"
    IN_PROCESS = "in-process"


class Precision(StrEnum):
    """The precision of a model's weights."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting of the scenario, such as parties.count=3. Repeatable; "
        "`python -m sims settings` lists all of them.",
    ),
]

ScenarioArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SCENARIO.toml",
        show_default="sims/scenarios/default.toml",
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show the log of Flower as well.")
]
ConnectionOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Run on this SuperLink of your own Flower configuration, with the nodes "
        "that have joined it, instead of --engine. Its machine must see the folder of "
        "results under the same path.",
    ),
]


def parse_layers(layers: str) -> tuple[int, ...]:
    """Read ``3,4,5``.

    Raises:
        InputError: If it is no list of distinct numbers.
    """
    try:
        numbers = tuple(int(each) for each in layers.split(","))
    except ValueError:
        numbers = ()
    if not numbers or len(set(numbers)) != len(numbers):
        raise InputError(f"--layers {layers!r}: wanted distinct numbers such as 3,4,5")
    return numbers


def refuse_existing_file(output: Path) -> None:
    """Refuse to overwrite a file, before anything takes long.

    Raises:
        InputError: If it exists.
    """
    if output.exists():
        raise InputError(f"{output} exists and is never overwritten; name another file")
