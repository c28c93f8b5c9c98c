"""The commands for operators: status, estimate.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from editing.base.errors import InputError
from sims.cli.options import Precision, parse_layers
from sims.echo import echo

app = typer.Typer()


@app.command("status")
def show_run_status(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The run's folder, with or without `.unfinished`."
        ),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Repeat until the run has ended.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, one object a line.")
    ] = False,
) -> None:
    """Show the state of a run: round, exchange, parties, and the last error of each.

    The exit code is 1 if the run has failed, or has been silent for too long.
    """
    from sims.console import open_console
    from sims.runs.status import show_status

    console = open_console()
    if not show_status(folder.absolute(), console, as_json=as_json, watch=watch):
        raise typer.Exit(1)


class Layout(StrEnum):
    """How figures are written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


class Encoding(StrEnum):
    """The encoding of statistics in messages."""

    FACTORS = "factors"
    FACTORS_FLOAT32 = "factors-float32"
    DENSE = "dense"


class Together(StrEnum):
    """Which layers are sent together."""

    LAYERWISE = "layerwise"
    FROZEN_UNIFORM = "frozen-uniform"
    FROZEN_HARMONIC = "frozen-harmonic"
    BOUNDARY = "boundary"


class Down(StrEnum):
    """How updates are written on the wire."""

    WHOLE = "whole"
    FACTORS = "factors"


class Stored(StrEnum):
    """The precision of a covariance's file."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


@app.command("estimate")
def estimate_sizes(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|DIR",
            help="gpt2-xl, gpt-j-6b, llama-3-8b, qwen2.5-7b, a folder with a "
            "config.json, or embedded.",
        ),
    ] = "gpt2-xl",
    parties: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Parties. Repeatable: one column each.", show_default="10"
        ),
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, help="New requests of a party in a round.")
    ] = 100,
    rounds: Annotated[
        int,
        typer.Option(min=1, help="Rounds; all but the last are remembered."),
    ] = 1,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER,…",
            help="The edited layers, as 3,4,5.",
            show_default="the hyperparameters'",
        ),
    ] = None,
    encoding: Annotated[
        Encoding, typer.Option(help="The encoding of statistics in messages.")
    ] = Encoding.FACTORS,
    encoding_down: Annotated[
        Down, typer.Option(help="The encoding of updates, of the merge `collabedit`.")
    ] = Down.WHOLE,
    covariance: Annotated[
        Stored,
        typer.Option(help="The covariance's file: float32 if published, float64 ours."),
    ] = Stored.FLOAT32,
    schedule: Annotated[
        Together, typer.Option(help="Whether layers are sent one by one or together.")
    ] = Together.LAYERWISE,
    dtype: Annotated[
        Precision, typer.Option(help="The model's precision.")
    ] = Precision.FLOAT32,
    bandwidth: Annotated[
        float,
        typer.Option(min=0.001, max=1e9, help="The server's connection, in Mbit/s."),
    ] = 1000.0,
    evaluate_every: Annotated[
        int, typer.Option(min=1, help="Rounds from one evaluation to the next.")
    ] = 1,
    editor: Annotated[
        str, typer.Option(metavar="NAME", help="The editor, by its name.")
    ] = "memit",
    layout: Annotated[
        Layout, typer.Option("--format", help="The output format.")
    ] = Layout.TABLE,
) -> None:
    """Estimate the traffic, memory and disk of a run from the model's shapes alone.

    No weights are read. The formulas are in `sims/sizes/estimate.py`.
    """
    from sims.console import open_console
    from sims.sizes.estimate import Estimate, EstimateOrder
    from sims.sizes.shapes import read_shape
    from sims.sizes.tables import to_json, to_markdown, to_table

    if not isfinite(bandwidth):
        raise InputError(f"--bandwidth {bandwidth}: wanted a number of Mbit/s")
    shape = read_shape(model, parse_layers(layers) if layers else None)
    found = [
        Estimate(
            shape,
            EstimateOrder(
                parties=count,
                requests=requests,
                rounds=rounds,
                encoding=encoding.value,
                encoding_down=encoding_down.value,
                covariance=covariance.value,
                schedule=schedule.value,
                dtype=dtype.value,
                bandwidth=bandwidth,
                evaluate_every=evaluate_every,
                editor=editor,
            ),
        )
        for count in parties or [10]
    ]
    if layout is Layout.TABLE:
        open_console().print(to_table(found))
    else:
        echo(to_markdown(found) if layout is Layout.MARKDOWN else to_json(found))
