"""The commands that prepare what runs read: covariances, and each party's requests."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sims.cli.options import (
    Precision,
    TargetSpace,
    TargetSpaceOption,
    check_new_file,
    parse_layers,
)

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


class SplitKind(StrEnum):
    """How requests are partitioned."""

    CONTIGUOUS = "contiguous"
    SHUFFLED = "shuffled"
    RELATION = "relation"
    DIRICHLET = "dirichlet"


class ZsreTarget(StrEnum):
    """What zsRE's records ask for."""

    ANSWERS = "answers"
    ALT = "alt"


@app.command("split")
def split_requests(
    requests: Annotated[
        str, typer.Option(metavar="SOURCE", help="A file of requests, or `embedded`.")
    ],
    parties: Annotated[int, typer.Option(min=1, help="How many files to write.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.")],
    split: Annotated[
        SplitKind,
        typer.Option(
            help="In the source's order, or in another; whole relations to a party; or "
            "shares of each relation, drawn from a Dirichlet distribution."
        ),
    ] = SplitKind.CONTIGUOUS,
    alpha: Annotated[
        float,
        typer.Option(help="Concentration of dirichlet; small: few relations a party."),
    ] = 0.5,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Requests of each party in a round, one number for all or each its "
            "own, or a list a round, such as [[3,2],[1,2]].",
            show_default="the whole source, in one round",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="For how many rounds, with --sizes.")
    ] = 1,
    overlap: Annotated[
        str,
        typer.Option(
            metavar="N|SHARE",
            help="Of each party's requests of a round, how many the next party makes "
            "too: a number, or a share with a point, such as 0.5.",
        ),
    ] = "0",
    conflicts: Annotated[
        str,
        typer.Option(metavar="N|SHARE", help="How many it makes with another object."),
    ] = "0",
    seed: Annotated[int, typer.Option(min=0, help="Seeds every random draw.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many requests of the source to take.",
            show_default="all of them",
        ),
    ] = None,
    zsre_target: Annotated[
        ZsreTarget, typer.Option(help="Which field of zsRE's records is edited in.")
    ] = ZsreTarget.ANSWERS,
    skip: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Records to leave out, by the numbers that messages give.",
            show_default="none",
        ),
    ] = None,
    target_space: TargetSpaceOption = TargetSpace.AUTO,
    show_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Show how this model's tokenizer joins the first prompts with their "
            "targets: a folder, hub id or `embedded`.",
            show_default="no tokens",
        ),
    ] = None,
) -> None:
    """Write one private file of requests for each party, partitioned as in a run.

    A node reads its file by `requests-path` in its node config. summary.json counts
    what each file holds, without a word of it.
    """
    from pydantic import ValidationError

    from editing.base.errors import InputError
    from sims.splitting import (
        SplitOrder,
        explain,
        read_amount,
        read_numbers,
        read_sizes,
        split_source,
    )

    values = {
        "source": requests,
        "parties": parties,
        "split": split.value,
        "alpha": alpha,
        "sizes": read_sizes(sizes),
        "rounds": rounds,
        "overlap": read_amount(overlap, "--overlap"),
        "conflicts": read_amount(conflicts, "--conflicts"),
        "seed": seed,
        "limit": limit,
        "zsre_target": zsre_target.value,
        "skip": read_numbers(skip, "--skip"),
        "target_space": target_space.value,
    }
    try:
        order = SplitOrder.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error)) from None
    split_source(order, output, show_tokens)
