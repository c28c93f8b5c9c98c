"""The commands that estimate a covariance and describe covariance files."""

from pathlib import Path
from typing import Annotated

import typer

from sims.cli.options import Precision, check_new_file, parse_layers

app = typer.Typer()


@app.command("covariance")
def estimate_covariance(
    model: Annotated[str, typer.Option(help="A model folder, hub id or `embedded`.")],
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")
    ],
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER,…",
            help="The layers to be edited, as 3,4,5.",
            show_default="the hyperparameters'",
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option(
            metavar="FILE|hub:NAME|self",
            help="A text file with one document a line, .jsonl or .parquet (its field "
            "after #), a folder that `datasets` saved, "
            "hub:NAME[:CONFIG][@SPLIT][#FIELD], or self: text that the model writes.",
        ),
    ] = "embedded",
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens to average over; fewer if the text is shorter.",
            show_default="132000, or twice the width of the keys if that is more",
        ),
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="The precision of the weights.")
    ] = Precision.FLOAT32,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "cpu",
    batch_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens in a batch, with padding.")
    ] = 4096,
    checkpoint_every: Annotated[
        int,
        typer.Option(min=1, help="Tokens between two states to resume from."),
    ] = 25_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Draws the text that the model writes.")
    ] = 0,
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="Hyperparameters that name the layers and, for an unknown family, the "
            "modules.",
            show_default="the model's own, or the preset of its name",
        ),
    ] = None,
) -> None:
    """Estimate the covariance of the keys on a text, for all layers in one pass.

    The same command resumes a killed one from FILE.unfinished, with the same bits.
    """
    from sims.console import announce_loading

    chosen = parse_layers(layers) if layers else None
    check_new_file(output)
    announce_loading()
    from sims.runs.covariance import EstimationOptions, estimate_to_file

    options = EstimationOptions(
        model=model,
        layers=chosen,
        text=text,
        tokens=tokens,
        dtype=dtype.value,
        device=device,
        batch_tokens=batch_tokens,
        checkpoint_every=checkpoint_every,
        seed=seed,
        hyperparameters=hyperparameters,
    )
    estimate_to_file(options, output)


@app.command("covariance-info")
def show_covariance_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…")],
) -> None:
    """Describe covariance files: layers, tokens, ranks, ridges, text and model.

    FILE is one of ours, or an .npz of ROME, MEMIT or EasyEdit.
    """
    from sims.runs.covariance import show_files

    show_files(files)
