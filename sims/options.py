"""Options that several commands have."""

from enum import StrEnum
from typing import Annotated

import typer


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


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting of the scenario, such as parties.count=3. Repeatable; "
        "pyproject.toml lists all of them under tool.flwr.app.config.",
    ),
]
