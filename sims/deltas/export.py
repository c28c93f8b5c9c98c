"""Write a model with a delta in it as a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from editing.algebra.deltas import DeltaFile, stored_way
from editing.algebra.fingerprints import fingerprint_model
from editing.algebra.reversal import Missed, plan_reversal
from editing.base.errors import InputError
from server.output import create_output_folder, refuse_existing
from sims.deltas.earlier import EARLIER, carry_edits, explain_earlier
from sims.deltas.files import (
    check_base,
    check_shapes,
    dtype_of,
    find_delta,
    public_name,
    read_update,
)
from sims.deltas.model_folders import (
    SHARD_SIZE,
    check_shard_size,
    dtype_name,
    follow,
    hub_name,
    load_whole,
    save_whole,
    share_files,
    torch_dtype,
)
from sims.deltas.published import find_published
from sims.deltas.record import (
    FOLDER,
    EditRecord,
    WeightChange,
    public_facts,
    write_record,
)
from sims.deltas.reversal_files import enter_reversal, save_reversals


def apply_delta(
    model_path: str,
    delta_path: Path,
    output: Path,
    *,
    dtype: str | None = None,
    max_shard_size: str = SHARD_SIZE,
    force_base: bool = False,
    reversible: bool = True,
) -> EditRecord:
    """Write a complete folder of the edited model, that transformers loads by itself.

    The sum ``W + Δ`` is that of `editing.algebra.deltas.applied`, in the run's
    precision; a model written in another one is rounded once, after it. One weight at a
    time has a copy in memory.

    Args:
        model_path: The base: a folder, a hub name or ``embedded``.
        delta_path: The delta's file, or a run's folder with one.
        output: The folder to make, whole or not at all.
        dtype: Precision of the written weights; the run's if left out.
        max_shard_size: Largest file of weights, such as ``5GB``.
        force_base: Edit the base even if the delta was made for another one.
        reversible: Keep what `revert_delta` needs to be exact.
    """
    refuse_existing(output)
    check_shard_size(max_shard_size)
    delta = find_delta(delta_path)
    base, unedited = load_base(model_path, delta, dtype, force=force_base)
    whole = find_published(base, model_path, delta.shapes)
    written, ran_in = torch_dtype(dtype or dtype_of(delta)), base.dtype
    as_written = unedited if written == ran_in else fingerprint_model(base, written)
    with create_output_folder(output) as draft:
        kept: dict[str, Tensor] | None = {} if reversible else None
        changes = tuple(edit_weights(base, delta, written, kept))
        nn.Module.to(base, written)
        save_whole(base, model_path, draft, max_shard_size, whole)
        earlier = carry_edits(Path(model_path), as_written, draft)
        record = EditRecord(
            base_name=public_name(model_path),
            base=unedited,
            base_as_written=as_written,
            edited=fingerprint_model(base),
            delta=delta.fingerprint(),
            forced=unedited != delta.metadata.get("base"),
            run_dtype=dtype_name(ran_in),
            dtype=dtype_name(written),
            facts=public_facts(delta.metadata),
            changes=changes,
            model_class=type(base).__name__ if whole is None else whole.architecture,
            tensors=None if whole is None else len(whole.checkpoint.shapes),
            earlier=None if earlier is None else earlier.delta,
            earlier_dtype=None if earlier is None else earlier.dtype,
            carried=(draft / FOLDER / EARLIER).is_dir(),
            reversal_bytes=None if kept is None else save_reversals(kept, draft),
        )
        words = {"hub_name": hub_name(model_path), "earlier": explain_earlier(record)}
        write_record(record, draft, "model.md.j2", **words)
        share_files(draft)
    return record


def load_base(
    model_path: str, delta: DeltaFile, named: str | None, *, force: bool
) -> tuple[PreTrainedModel, str]:
    """Load the base in the run's precision, and validate the delta against it.

    Returns:
        The model and its fingerprint.
    """
    base = load_whole(model_path, dtype_of(delta, named))
    check_shapes(delta, base)
    found = fingerprint_model(base)
    if not force:
        check_base(delta, found, dtype_name(base.dtype))
    return base, found


@torch.no_grad()
def edit_weights(
    model: nn.Module,
    delta: DeltaFile,
    written: torch.dtype,
    kept: dict[str, Tensor] | None,
) -> Iterator[WeightChange]:
    """Add each update to its weight, and measure the change.

    Args:
        model: The base, edited in place.
        delta: What to add.
        written: The precision of the written weights.
        kept: Is filled with what undoes the edit; None keeps nothing.

    Yields:
        The change of each weight.

    Raises:
        InputError: If a sum is no finite number in the written precision.
    """
    for name in follow(delta.shapes, "editing"):
        weight = model.get_parameter(name)
        update = stored_way(name, read_update(delta, name), model).to(weight)
        before = weight.detach().clone()
        weight.add_(update)
        after = weight.detach().to(written)
        if not after.isfinite().all():
            raise InputError(
                f"{delta.path}: `{name}` with its update is more than "
                f"{dtype_name(written)} can hold, or not a number; try --dtype float32"
            )
        reversal, missed = plan_reversal(before.to(written), after, update)
        if kept is not None:
            enter_reversal(kept, name, reversal)
        yield describe_change(name, delta, before, missed)


def describe_change(
    name: str, delta: DeltaFile, before: Tensor, missed: Missed
) -> WeightChange:
    """Measure an update against its weight."""
    d_out, d_in = delta.shapes[name]
    size, whole = frobenius(delta.read(name)), frobenius(before)
    return WeightChange(
        name=name,
        shape=(d_out, d_in),
        norm=size,
        relative=size / whole if whole > 0 else float(size > 0),
        missed=missed.count,
        largest_gap=missed.largest,
    )


def frobenius(matrix: Tensor) -> float:
    """Return the Frobenius norm, summed in float64."""
    return float(torch.linalg.vector_norm(matrix.detach(), dtype=torch.float64))
