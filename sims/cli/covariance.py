"""The commands that count a covariance and say what a covariance file holds."""

from pathlib import Path
from typing import Annotated

import typer

from sims.cli.options import Precision

app = typer.Typer()


@app.command("covariance")
def count_covariance_of_text(
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
            help="Tokens to average over, fewer if the text ends before.",
            show_default="132000, or twice the width of the keys if that is more",
        ),
    ] = None,
    dtype: Annotated[
        Precision, typer.Option(help="The precision of the weights.")
    ] = Precision.FLOAT32,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "cpu",
    batch_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a batch, padding counted.")
    ] = 4096,
    checkpoint_every: Annotated[
        int,
        typer.Option(min=1, help="Tokens between two states to go on from."),
    ] = 25_000,
    seed: Annotated[
        int, typer.Option(min=0, help="Draws the text that the model writes.")
    ] = 0,
    hyperparameters: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="What names the layers and, if its family is not known, the modules.",
            show_default="the model's own, or the preset of its name",
        ),
    ] = None,
) -> None:
    """Average the keys' outer products over a text, for all layers in one pass.

    Killed, the same command goes on where FILE.unfinished says, and ends with the same
    bits.
    """
    from sims.counting import CountOptions, count_to_file, parse_layers

    options = CountOptions(
        model=model,
        layers=parse_layers(layers) if layers else None,
        text=text,
        tokens=tokens,
        dtype=dtype.value,
        device=device,
        batch_tokens=batch_tokens,
        checkpoint_every=checkpoint_every,
        seed=seed,
        hyperparameters=hyperparameters,
    )
    count_to_file(options, output)


@app.command("covariance-info")
def show_covariance_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…")],
) -> None:
    """Say what covariance files hold: layers, tokens, ranks, ridges, text and model.

    FILE is one of ours, or an .npz of ROME, MEMIT or EasyEdit.
    """
    from sims.counting import show_files

    show_files(files)
