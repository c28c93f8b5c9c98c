"""The command that searches a model's layers, λ and clamp.

Heavy libraries are imported inside the command, so that ``--help`` answers at once.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sims.cli.options import Precision

app = typer.Typer()


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
    from server.output import refuse_existing
    from sims.search.candidates import split_budget

    split_budget(max_trials)
    refuse_existing(output)
    typer.echo("Search: loading the libraries …", err=True)
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
    typer.echo(render_table(outcome))
    typer.echo(f"Hyperparameters: {output / CHOSEN}")
