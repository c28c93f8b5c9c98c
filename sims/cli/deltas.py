"""The commands that export a delta: apply, revert, inspect.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editing.base.errors import InputError
from sims.cli.options import Precision, check_new_folder
from sims.echo import echo

if TYPE_CHECKING:
    from sims.deltas.record import EditRecord

app = typer.Typer()


class Form(StrEnum):
    """What a delta is exported as."""

    MODEL = "model"
    LORA = "lora"


DeltaOption = Annotated[
    Path,
    typer.Option(metavar="FILE", help="A delta.safetensors, or a run's folder."),
]
NewFolderOption = Annotated[
    Path, typer.Option(metavar="DIR", help="The folder to make; it must not exist.")
]
ShardOption = Annotated[
    str, typer.Option(metavar="SIZE", help="Largest file of weights.")
]


@app.command("apply")
def apply_to_model(
    model: Annotated[
        str, typer.Option(help="The base: a model folder, a hub name or `embedded`.")
    ],
    delta: DeltaOption,
    output: NewFolderOption,
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="model: a complete model folder; lora: an adapter for PEFT.",
        ),
    ] = Form.MODEL,
    dtype: Annotated[
        Precision | None,
        typer.Option(
            help="Precision of what is written. Also of the run, if an older delta's "
            "file does not name it.",
            show_default="the run's; float32 for an adapter",
        ),
    ] = None,
    max_shard_size: ShardOption = "5GB",
    rank: Annotated[
        str | None,
        typer.Option(metavar="R", help="lora: singular values kept, or `full`."),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="lora: keep the fewest that hold this share of ‖Δ‖², at most --rank.",
        ),
    ] = None,
    force_base: Annotated[
        bool, typer.Option("--force-base", help="Apply the delta to another base, too.")
    ] = False,
    reversible: Annotated[
        bool,
        typer.Option(
            help="model: keep what `revert` needs to be exact, "
            "in edit/revert.safetensors."
        ),
    ] = True,
) -> None:
    """Write the edited model as a folder that transformers loads, or as an adapter.

    The folder holds weights, tokenizer and a model card, and nothing of the requests.
    """
    from sims.console import announce_loading

    precision = None if dtype is None else dtype.value
    if form is not Form.LORA:
        refuse_ranks(rank, energy)
    check_new_folder(output)
    announce_loading()
    if form is Form.LORA:
        from sims.deltas.adapters import read_rank, write_adapter

        chosen = read_rank(rank, energy)
        show_adapter(
            write_adapter(
                model, delta, output, chosen, dtype=precision, force_base=force_base
            )
        )
    else:
        from sims.deltas.export import apply_delta

        show_model(
            apply_delta(
                model,
                delta,
                output,
                dtype=precision,
                max_shard_size=max_shard_size,
                force_base=force_base,
                reversible=reversible,
            )
        )
    echo(f"Written: {output}")


@app.command("revert")
def revert_model(
    model: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder that `apply` wrote.")
    ],
    delta: DeltaOption,
    output: NewFolderOption,
    max_shard_size: ShardOption = "5GB",
) -> None:
    """Write an edited model as it was before the delta, and how exact that is.

    It is exact to the bit with the file that `apply` keeps; without that file the delta
    is subtracted.
    """
    from sims.console import announce_loading

    check_new_folder(output)
    announce_loading()
    from sims.deltas.revert import revert_delta

    found = revert_delta(model, delta, output, max_shard_size=max_shard_size)
    echo(found.describe())
    echo(f"Written: {output}")


@app.command("inspect")
def inspect_delta_file(
    delta: Annotated[Path, typer.Argument(metavar="FILE")],
    model: Annotated[
        str | None,
        typer.Option(help="Compare with this model: a folder, a name or `embedded`."),
    ] = None,
    dtype: Annotated[
        Precision | None,
        typer.Option(help="The run's precision, if an older file does not name it."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs.")
    ] = False,
) -> None:
    """Print the contents of a delta: its run, its updates, their sizes and ranks.

    FILE is a delta.safetensors, or a run's folder.
    """
    from sims.console import announce_loading

    announce_loading()
    from sims.deltas.inspection import inspect_delta, show_report

    report = inspect_delta(delta, model, None if dtype is None else dtype.value)
    if as_json:
        echo(report.model_dump_json(indent=2))
    else:
        show_report(report)


def refuse_ranks(rank: str | None, energy: float | None) -> None:
    """Refuse an adapter's options where a model is written.

    Raises:
        InputError: If there are any.
    """
    if rank is not None or energy is not None:
        raise InputError("--rank and --energy shape an adapter; add --as lora")


def show_model(record: "EditRecord") -> None:
    """Print what was edited."""
    from sims.deltas.earlier import explain_earlier

    for change in record.changes:
        echo(f"{change.name}  ‖Δ‖/‖W‖ {change.relative:.3g}")
    if record.reversal_bytes is not None:
        echo(f"Kept for revert: {record.reversal_bytes} bytes")
    if earlier := explain_earlier(record):
        echo(earlier)


def show_adapter(record: "EditRecord") -> None:
    """Print what the truncation kept."""
    for change in record.changes:
        energy = 100 * (change.energy or 0.0)
        echo(
            f"{change.name}  rank {change.rank} of {change.full_rank}  "
            f"energy {energy:.4f} %"
        )
