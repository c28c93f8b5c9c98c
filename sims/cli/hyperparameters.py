"""The commands that list published hyperparameters, and find what a model needs.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sims.cli.options import Precision
from sims.echo import echo

if TYPE_CHECKING:  # pydantic's models are slow to make
    from editing.hyperparameters.presets import Preset

HOST = "https://github.com/"

app = typer.Typer()


@app.command("presets")
def list_presets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET]", help="Show all that one of them says."),
    ] = None,
) -> None:
    """List the published hyperparameters that `editing.hyperparameters` may name.

    A model whose hub name or folder has the name of a preset takes it by itself.
    """
    from editing.hyperparameters.presets import preset_names, read_preset

    if name is not None:
        show_preset(read_preset(name))
        return
    show_table([read_preset(each) for each in preset_names()])


def show_table(presets: "list[Preset]") -> None:
    """Print a row for each preset."""
    from rich.table import Table

    from sims.console import open_console

    table = Table(box=None, pad_edge=False)
    for heading in ("preset", "layers", "λ", "v_lr", "source"):
        table.add_column(heading, overflow="fold")
    for preset in presets:
        found = preset.parameters
        table.add_row(
            preset.name,
            say_layers(found.layers),
            f"{found.mom2_update_weight:g}"
            + ("" if "mom2_update_weight" in preset.values else " (default)"),
            f"{found.v_lr:g}",
            preset.source.removeprefix(HOST).replace("/blob/main/", ": "),
        )
    open_console().print(table, highlight=False, markup=False)


def show_preset(preset: "Preset") -> None:
    """Print every value of a preset, and where it is from."""
    from sims.console import open_console

    lines = [f"{preset.name}: {preset.model}", f"source: {preset.source}"]
    lines += [f"note: {preset.note}"] if preset.note else []
    for field, value in preset.parameters.model_dump(mode="json").items():
        if field in preset.values:
            other = preset.sources.get(field)
            lines.append(f"  {field} = {value}" + (f"  ({other})" if other else ""))
    open_console().print(
        "\n".join(lines), soft_wrap=True, highlight=False, markup=False
    )


def say_layers(layers: tuple[int, ...]) -> str:
    """Write a row of layers without gaps by its ends."""
    first, last = layers[0], layers[-1]
    if len(layers) > 1 and layers == tuple(range(first, last + 1)):
        return f"{first}–{last}"
    return ", ".join(map(str, layers))


@app.command("search")
def search_hyperparameters(
    model: Annotated[
        str, typer.Option(help="A model folder, a hub name, or `embedded`.")
    ] = "embedded",
    requests: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Requests in any known form; `embedded` takes the model's own.",
        ),
    ] = "embedded",
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make.")
    ] = Path("results/search"),
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Text of the covariances, as `prior.text`.",
            show_default="the model's own text, or `self`",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens that a covariance reads; as in a run if unset."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Requests to search with, and to validate with.")
    ] = 50,
    max_trials: Annotated[
        int, typer.Option(help="Trials in all, the validation included.")
    ] = 24,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="N-N",
            help="Layers that may be edited, as 3-8 or 3,5,7.",
            show_default="all but the last",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Draws the requests and context templates.")
    ] = 0,
    dtype: Annotated[
        Precision, typer.Option(help="The model's precision.")
    ] = Precision.FLOAT32,
    device: Annotated[str, typer.Option(help="Where the model computes.")] = "cpu",
) -> None:
    """Search the layers, λ and clamp of a model, and validate the best choices.

    One half of the requests is searched with; the other half, about other subjects,
    decides between the best three. DIR receives all trials (search.md, search.json)
    and the chosen hyperparameters.json, which `editing.hyperparameters` reads.
    """
    from sims.cli.options import check_new_folder
    from sims.search.candidates import split_budget

    split_budget(max_trials)
    check_new_folder(output)
    echo("Search: loading the libraries …", err=True)
    from sims.search.job import SearchOrder, run_search
    from sims.search.results import CHOSEN, render_table

    order = SearchOrder(
        model=model,
        requests=requests,
        text=text,
        tokens=tokens,
        count=count,
        trials=max_trials,
        layers=layers,
        seed=seed,
        dtype=dtype.value,
        device=device,
        command=shlex.join(["python", "-m", "sims", *sys.argv[1:]]),
    )
    outcome = run_search(order, output)
    echo(render_table(outcome))
    echo(f"Hyperparameters: {output / CHOSEN}")


@app.command("norm-anchor")
def measure_norm_anchor(
    model: Annotated[
        str, typer.Option(help="A model folder, a hub name, or `embedded`.")
    ] = "embedded",
    requests: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Facts in any known form; `embedded` takes the model's own.",
        ),
    ] = "embedded",
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file or a preset, as `editing.hyperparameters`.",
            show_default="the model's own",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Facts that are drawn.")] = 1000,
    seed: Annotated[
        int, typer.Option(help="Draws the facts and context templates.")
    ] = 0,
    dtype: Annotated[
        Precision, typer.Option(help="The model's precision.")
    ] = Precision.FLOAT32,
    device: Annotated[str, typer.Option(help="Where the model computes.")] = "cpu",
) -> None:
    """Measure the length that `editing.norm-anchor` brings values to.

    It is the mean length of what targets of facts ask the edited module for, on the
    unedited model, without the longest twentieth. Public facts serve: take none that
    a party edits.
    """
    echo("Norm anchor: loading the libraries …", err=True)
    from sims.search.anchor import AnchorOrder, measure_reference

    found = measure_reference(
        AnchorOrder(model, requests, hyperparameters, count, seed, dtype.value, device)
    )
    echo(f"Layer {found.layer}, {found.facts} facts. Set:", err=True)
    echo(f"editing.norm-anchor={found.norm:.6g}")


@app.command("train-hypernetwork")
def train_embedded_hypernetwork(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder to make.")
    ] = Path("results/hypernetwork"),
    model: Annotated[
        str, typer.Option(help="A folder made by train-world, or `embedded`.")
    ] = "embedded",
    seed: Annotated[
        int, typer.Option(min=0, help="Draws edits, first tensors and batches.")
    ] = 0,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Training steps; the recipe's if left out."),
    ] = None,
) -> None:
    """Train the embedded model's hypernetwork again, for the editor `malmen`.

    It edits made-up people whom no request is about. DIR receives
    hypernetwork.safetensors, and hypernetwork.json with losses and what it reaches on
    requests of others. Parties that keep their requests train with `training.steps`.
    """
    from sims.cli.options import check_new_folder
    from sims.console import announce_loading

    check_new_folder(output)
    announce_loading()
    from sims.world.hypernetwork import RECORD, train_embedded

    train_embedded(output, model, seed, steps)
    echo(f"Hypernetwork: {output}; what it reaches: {output / RECORD}")
