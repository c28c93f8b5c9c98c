"""The commands of ``python -m sims``.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError
from sims.cli.deltas import app as deltas
from sims.cli.deployment import app as deployments
from sims.cli.evaluate import app as evaluations
from sims.cli.hyperparameters import app as hyperparameters
from sims.cli.inputs import app as inputs
from sims.cli.operations import app as operations
from sims.cli.options import check_new_folder
from sims.cli.privacy import app as privacy
from sims.cli.runs import app as runs
from sims.cli.settings import app as listings
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


own = typer.Typer()
"""The commands below, which are listed last."""

app.add_typer(runs)
app.add_typer(studies)
app.add_typer(inputs)
app.add_typer(deltas)
app.add_typer(deployments)
app.add_typer(evaluations)
app.add_typer(operations)
app.add_typer(hyperparameters)
app.add_typer(listings)
app.add_typer(privacy)
app.add_typer(own)


@own.command("cache")
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


@own.command("train-world")
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


@own.command("export-model")
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


@own.command("search-world")
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
