"""The commands of ``python -m sims``.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError
from sims.cli.covariance import app as covariances
from sims.cli.deltas import app as deltas
from sims.cli.deployment import app as deployments
from sims.cli.evaluate import app as evaluations
from sims.cli.hyperparameters import app as hyperparameters
from sims.cli.operations import app as operations
from sims.cli.options import (
    DEFAULT_SCENARIO,
    ConnectionOption,
    Engine,
    ScenarioArgument,
    SetOption,
    VerboseOption,
    check_new_folder,
)
from sims.cli.privacy import app as privacy
from sims.cli.settings import app as listings
from sims.cli.split import app as splits
from sims.cli.study import app as studies
from sims.echo import echo, keep_console_harmless
from sims.errors import RunFailedError

FILE_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""What a path that a user named may raise where nobody checked it before."""

NO_ROOM = (
    "there is no room left on a disk of this machine; free some, then call the command "
    "again. Earlier results are as they were"
)

BAD_INPUT = 2
FAILED = 1

app = typer.Typer(
    name="python -m sims",
    help=(
        "Edit the knowledge of one language model together: several parties with "
        "private requests, one merged update. Start with `python -m sims compare`."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(studies)
app.add_typer(covariances)
app.add_typer(deltas)
app.add_typer(deployments)
app.add_typer(evaluations)
app.add_typer(operations)
app.add_typer(hyperparameters)
app.add_typer(listings)
app.add_typer(privacy)
app.add_typer(splits)


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="flower starts Flower's simulation and ends it afterwards; in-process "
        "runs the same apps in this process, for short runs and for debugging."
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder to make for the results.",
        show_default="run_NUMBER in results/MERGE, or in results/compare",
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEDULE",
        help="layerwise, frozen-harmonic, frozen-uniform, boundary (the first and the "
        "last layer), or alone: each party edits a copy of its own through all layers, "
        "and then they merge.",
        show_default="the scenario's",
    ),
]
MergesOption = Annotated[
    str | None,
    typer.Option(
        metavar="MERGE,…",
        help="Compare these alone: names, as `python -m sims merges` lists them, or "
        "package.module:Class.",
        show_default="those of CollabEdit's paper, the scenario's, and global",
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Resume the stopped run in DIR after its last completed round.",
    ),
]


ExternalOption = Annotated[
    bool,
    typer.Option(
        "--allow-external-merge",
        help="With --connection: accept a merge named package.module:Class, whose code "
        "then runs at the server and here. Read it first.",
    ),
]


@app.command("run")
def run_scenario(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    settings: SetOption = None,
    engine: EngineOption = Engine.FLOWER,
    connection: ConnectionOption = None,
    output: OutputOption = None,
    resume: ResumeOption = None,
    allow_external_merge: ExternalOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run one scenario with its merge, and evaluate the edited model.

    SCENARIO.toml describes the run; sims/scenarios has examples.
    """
    carrier = name_engine(engine, connection)
    if resume is not None:
        refuse_settings(scenario, settings)
        resume_run(resume, carrier, output, compare=False, verbose=verbose)
        return
    external = connection is None or allow_external_merge
    start_run(
        scenario, settings or [], carrier, output, external=external, verbose=verbose
    )


@app.command("compare")
def compare_merges(
    scenario: ScenarioArgument = DEFAULT_SCENARIO,
    settings: SetOption = None,
    engine: EngineOption = Engine.FLOWER,
    connection: ConnectionOption = None,
    output: OutputOption = None,
    schedule: ScheduleOption = None,
    merges: MergesOption = None,
    resume: ResumeOption = None,
    allow_external_merge: ExternalOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run several merges on the same requests and compare them in one report.

    SCENARIO.toml describes the run; sims/scenarios has examples.
    """
    carrier = name_engine(engine, connection)
    chosen = compare_settings(schedule, merges)
    if resume is not None:
        refuse_settings(scenario, [*(settings or []), *chosen])
        resume_run(resume, carrier, output, compare=True, verbose=verbose)
        return
    chosen = [*(settings or []), "run.compare=true", *chosen]
    external = connection is None or allow_external_merge
    start_run(scenario, chosen, carrier, output, external=external, verbose=verbose)


@app.command("summarize")
def summarize_results(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS…")],
    runs: Annotated[
        str | None,
        typer.Option(metavar="RUN,…", help="Average these runs only, as run_003 or 3."),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(min=1, help="Average this many cases of each run, by number."),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Write the table: .csv, .md or .txt. Repeatable."
        ),
    ] = None,
) -> None:
    """Average the case files of runs, ours and those of MEMIT and CollabEdit.

    RESULTS are folders of results or of runs. One row for each editor: means and
    standard deviations over its runs, or over the cases of a single one.
    """
    from sims.results.summaries import summarize

    summarize(results, runs, first, output or [])


@app.command("cache")
def show_target_cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove the cached targets.")
    ] = False,
) -> None:
    """Show the targets that are cached between runs, or remove them.

    A cached target is used only if everything that determines it is the same.
    """
    from sims.runs.jobs import clear_target_cache, describe_target_cache

    echo(clear_target_cache() if clear else describe_target_cache())


@app.command("train-world")
def train_embedded_model(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make.")
    ] = Path("results/world"),
    seed: Annotated[int, typer.Option(help="Seed of the world and the weights.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Training steps; the recipe's if left out."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="The model to make: `embedded` or `larger`.")
    ] = "embedded",
) -> None:
    """Train the embedded model again, or a larger one, on a world of made-up facts."""
    from sims.console import announce_loading
    from sims.world.recipe import find_recipe

    found = find_recipe(recipe)
    check_new_folder(output)
    announce_loading()
    from sims.world.training import train_world

    train_world(output, seed, steps, found)
    echo(f"Model: {output}")


@app.command("export-model")
def export_embedded_model(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    model: Annotated[
        str, typer.Option(help="The model to copy: `embedded` or `larger`.")
    ] = "embedded",
) -> None:
    """Copy the embedded model, for nodes that have the app's bundle alone."""
    from editing.sources.embedded import OWN_MODELS
    from sims.runs.jobs import export_model

    if model not in OWN_MODELS:
        known = ", ".join(OWN_MODELS)
        raise InputError(f"--model {model}: wanted one that comes with it: {known}")
    export_model(folder, model)
    echo(
        f"Model: {folder}; name it in each node's `model-path` and in the run's "
        "`model.path`"
    )


@app.command("search-world")
def search_embedded_hyperparameters(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make.")
    ] = Path("results/search-world"),
    model: Annotated[
        str,
        typer.Option(help="A folder made by train-world, `embedded` or `larger`."),
    ] = "embedded",
    recipe: Annotated[
        str | None,
        typer.Option(help="The recipe it was trained by, if `--model` is a folder."),
    ] = None,
) -> None:
    """Repeat the recorded search for the embedded model's hyperparameters."""
    from sims.console import announce_loading
    from sims.world.recipe import find_recipe

    if recipe is not None:
        find_recipe(recipe)
    check_new_folder(output)
    announce_loading()
    from sims.world.search import search

    search(output, model, recipe)
    echo(f"Trials: {output}")


def start_run(
    scenario: Path,
    settings: Sequence[str],
    engine: str,
    output: Path | None,
    *,
    external: bool,
    verbose: bool,
) -> None:
    """Validate the settings, then load the libraries, which takes much longer."""
    from server.config import read_scenario
    from sims.console import announce_loading
    from sims.processes.superlink import check_connection

    config = read_scenario(scenario, settings, external=external)
    if output is not None:
        check_new_folder(output)
    if engine.startswith("connection:"):
        check_connection(engine.removeprefix("connection:"))
    announce_loading()
    from sims.runs.jobs import run_job

    run_job(config, engine, output, verbose=verbose)


def resume_run(
    folder: Path, engine: str, output: Path | None, *, compare: bool, verbose: bool
) -> None:
    """Resume a stopped run by the command that began it."""
    from sims.console import announce_loading

    announce_loading()
    from sims.runs.jobs import resume_job

    resume_job(folder, engine, output, compare=compare, verbose=verbose)


def compare_settings(schedule: str | None, merges: str | None) -> list[str]:
    """Write the options of `compare` as settings.

    Raises:
        InputError: If a list of merges has an empty name.
    """
    settings = []
    if schedule is not None:
        settings.append(f"editing.schedule={json.dumps(schedule)}")
    if merges is not None:
        names = [name.strip() for name in merges.split(",")]
        if not all(names):
            raise InputError(
                f"--merges {merges}: wanted names between the commas, such as "
                "`--merges collabedit,ties,package.module:Class`"
            )
        settings.append(f"run.merges={json.dumps(names)}")
    return settings


def name_engine(engine: Engine, connection: str | None) -> str:
    """Name the engine as `sims.runs.engines` does."""
    return engine.value if connection is None else f"connection:{connection}"


def refuse_settings(scenario: Path, settings: list[str] | None) -> None:
    """Refuse settings for a resumed run, which keeps those it was begun with.

    Raises:
        InputError: If there are any.
    """
    if settings or scenario != DEFAULT_SCENARIO:
        raise InputError(
            "--resume keeps the settings that the run was begun with; leave the "
            "scenario, --set, --schedule and --merges out"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    keep_console_harmless()
    try:
        app(args=list(arguments) if arguments is not None else None)
    except InputError as error:
        fail(error, BAD_INPUT)
    except RunFailedError as error:
        fail(error, FAILED)
    except FILE_ERRORS as error:
        fail(explain_file_error(error), BAD_INPUT)
    except Exception as error:
        if not is_of_a_full_disk(error):
            raise
        fail(RunFailedError(NO_ROOM), FAILED)


def is_of_a_full_disk(error: Exception) -> bool:
    """Return whether a disk has no room left; see `editing.files.disk`."""
    from editing.files.disk import has_no_room

    return has_no_room(error)


def explain_file_error(error: OSError) -> InputError:
    """Name the file or folder that could not be read or written, and the reason."""
    return InputError(
        f"{error.filename}: cannot be read or written ({error.strerror}); name another "
        "path, or change who may use it"
    )


def fail(error: Exception, code: int) -> None:
    """Print the error in one line and exit."""
    echo(f"Error: {' '.join(str(error).split())}", err=True)
    sys.exit(code)
