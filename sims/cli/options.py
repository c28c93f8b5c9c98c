"""Options of several commands, and how they are read."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from enum import StrEnum
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

import typer

from editing.base.errors import InputError

Options = TypeVar("Options")

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
SweepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=VALUE,…",
        help="Run everything once for each value of a setting, such as "
        "prior.weight=100,300. Repeatable: several are combined every way.",
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


def takes(
    options: type[Options],
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a function of one options value into a command with an option a field.

    Args:
        options: A dataclass whose fields are annotated as typer's parameters are.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(options)  # type: ignore[arg-type]
    ]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**values: object) -> None:
            function(options(**values))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__annotations__ = hints
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


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


def check_new_file(path: Path, option: str = "--output") -> None:
    """Validate that a new file can be made, before anything takes long.

    Raises:
        InputError: If it exists, or its place admits no new file.
    """
    if path.exists():
        raise InputError(f"{path} exists and is never overwritten; name another file")
    check_place(path, option)


def check_new_folder(path: Path, option: str = "--output") -> None:
    """Validate that a new folder can be made, before anything takes long.

    Raises:
        InputError: If it exists, or its place admits no new folder.
    """
    if path.exists():
        raise InputError(
            f"The output folder {path} exists and is never overwritten; name another "
            f"with {option}, or move it away"
        )
    check_place(path, option)


def check_place(path: Path, option: str) -> None:
    """Validate that the nearest folder that exists may be written to.

    Raises:
        InputError: If it is a file, or may not be written to.
    """
    place = next(each for each in path.absolute().parents if each.exists())
    try:
        # Rights do not tell: /proc admits no files, not even its owner's.
        with tempfile.TemporaryFile(dir=place):
            return
    except OSError:
        reason = "may not be written to" if place.is_dir() else "is a file"
    raise InputError(
        f"{option} {path}: cannot be made, for {place} {reason}; name another place"
    )


DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Read everything but weights, start nothing, list what is missing and "
        "estimate time, memory and bytes.",
    ),
]


def show_dry_run(
    scenario: Path,
    settings: Sequence[str],
    sweep: Sequence[str] = (),
    *,
    resume: Path | None,
    external: bool,
) -> None:
    """Look for all that a run needs, or each point of a sweep; load nothing large.

    Raises:
        InputError: If something is missing, or a folder to resume is named.
    """
    if resume is not None:
        raise InputError("--dry-run looks for what a new run needs; leave --resume out")
    from server.config import read_scenario
    from sims.console import announce_loading, hush_libraries, open_console
    from sims.paper.sweep import read_sweeps

    points = [point.settings for point in read_sweeps(sweep)]
    configs = [
        read_scenario(scenario, [*settings, *point], external=external)
        for point in points
    ]
    announce_loading()
    hush_libraries()
    from sims.dry_run.dry_run import dry_runs

    dry_runs(configs, [", ".join(point) for point in points], open_console())
