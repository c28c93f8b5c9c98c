"""Options that several commands have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"
DEFAULT_SCENARIO = SCENARIOS / "default.toml"


class Engine(StrEnum):
    """What carries the messages between server and parties."""

    FLOWER = "flower"
    IN_PROCESS = "in-process"


class Precision(StrEnum):
    """How a model's numbers are kept."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class TargetSpace(StrEnum):
    """Whether a space is put between a prompt and its target."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


TargetSpaceOption = Annotated[
    TargetSpace,
    typer.Option(
        help="A space between a prompt and its target: as running text of the script "
        "has it, always, or never."
    ),
]

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting of the scenario, such as parties.count=3. Repeatable; "
        "pyproject.toml lists all of them under tool.flwr.app.config.",
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
        "that have joined it, instead of --engine. The results' folder must be one "
        "that its machine has too.",
    ),
]
