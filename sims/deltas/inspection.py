"""Describe a delta: its origin, its size and its rank."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, JsonValue
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor, nn

from editing.algebra.deltas import DeltaFile
from editing.algebra.fingerprints import fingerprint_model
from editing.algebra.low_rank import decompose
from editing.base.settings import Settings
from server.inputs import digest_file
from sims.console import open_console
from sims.deltas.export import frobenius
from sims.deltas.files import check_shapes, dtype_of, find_delta, read_update
from sims.deltas.model_folders import follow, load_whole

ENERGY = 0.99


class UpdateReport(Settings):
    """Size and rank of one update.

    Attributes:
        name: The parameter.
        shape: ``(d_out, d_in)``.
        norm: ``‖Δ‖``, Frobenius.
        spectral_norm: The largest singular value.
        rank: Number of singular values above the rounding of the file.
        effective_rank: How many of them hold 99 % of ``‖Δ‖²``.
        relative: ``‖Δ‖ / ‖W‖``; None if no model was named.
    """

    name: str
    shape: tuple[int, int]
    norm: float
    spectral_norm: float
    rank: int
    effective_rank: int
    relative: float | None = None


class DeltaReport(Settings):
    """Contents of a delta file.

    Attributes:
        file: Its path.
        metadata: All of its metadata.
        updates: One entry a weight.
        fingerprint: SHA-256 of names and values.
        sha256: SHA-256 of the file; equal runs write equal files.
        base_matches: Whether the delta was made for the named model; None if no model
            was named, or the file does not name one.
    """

    file: str
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    updates: tuple[UpdateReport, ...]
    fingerprint: str
    sha256: str
    base_matches: bool | None = None


def inspect_delta(
    path: Path, model_path: str | None = None, dtype: str | None = None
) -> DeltaReport:
    """Read a delta file, or the one in a run's folder, one update at a time.

    Args:
        path: The file or folder.
        model_path: Compare with this model: a folder, a hub name or ``embedded``.
        dtype: Load it in this precision if the file does not name the run's.
    """
    delta = find_delta(path)
    model = None
    if model_path is not None:
        model = load_whole(model_path, dtype_of(delta, dtype))
        check_shapes(delta, model)
    base = delta.metadata.get("base")
    return DeltaReport.model_validate(
        {
            "file": str(delta.path),
            "metadata": dict(delta.metadata),
            "updates": tuple(describe_updates(delta, model)),
            "fingerprint": delta.fingerprint(),
            "sha256": digest_file(delta.path),
            "base_matches": None
            if model is None or base is None
            else base == fingerprint_model(model),
        }
    )


def describe_updates(
    delta: DeltaFile, model: nn.Module | None
) -> Iterator[UpdateReport]:
    """Describe each update, relative to its weight if there is a model."""
    for name in follow(delta.shapes, "inspecting"):
        weight = None if model is None else model.get_parameter(name)
        yield describe_update(name, read_update(delta, name), weight)


def describe_update(name: str, update: Tensor, weight: Tensor | None) -> UpdateReport:
    """Describe one update ``d_out × d_in``, relative to its weight if there is one."""
    d_out, d_in = update.shape
    spectrum, norm = decompose(update), frobenius(update)
    whole = None if weight is None else frobenius(weight)
    return UpdateReport(
        name=name,
        shape=(d_out, d_in),
        norm=norm,
        spectral_norm=float(spectrum.values[0]),
        rank=spectrum.rank,
        effective_rank=spectrum.rank_for(ENERGY),
        relative=norm / whole if whole else None,
    )


def show_report(report: DeltaReport) -> None:
    """Print a report."""
    console = open_console()
    console.print(report.file, markup=False, highlight=False, soft_wrap=True)
    for name, value in report.metadata.items():
        line = f"  {name}: {value}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"  SHA-256 of the file: {report.sha256}", soft_wrap=True)
    if report.base_matches is not None:
        verdict = "is" if report.base_matches else "is NOT"
        console.print(f"  the model {verdict} the one that the delta was made for")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("weight", overflow="fold")
    for heading in ("d_out × d_in", "‖Δ‖", "largest s", "rank", "99 % rank", "‖Δ‖/‖W‖"):
        table.add_column(heading, justify="right")
    for update in report.updates:
        table.add_row(*cells_of(update))
    console.print(table)


def cells_of(update: UpdateReport) -> tuple[str, ...]:
    """Return the cells of one update."""
    d_out, d_in = update.shape
    relative = "" if update.relative is None else f"{update.relative:.3g}"
    return (
        update.name,
        f"{d_out} × {d_in}",
        f"{update.norm:.4g}",
        f"{update.spectral_norm:.4g}",
        str(update.rank),
        str(update.effective_rank),
        relative,
    )
