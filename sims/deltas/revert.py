"""Revert a delta in a model folder, and report how exactly."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from editing.algebra.deltas import DeltaFile, stored_way
from editing.algebra.fingerprints import fingerprint_model
from editing.algebra.reversal import bound_of_rounding, subtract, undo
from editing.base.errors import InputError
from editing.files.atomic import write_whole
from server.output import create_output_folder, refuse_existing
from sims.deltas.earlier import check_order, restore_edits
from sims.deltas.files import (
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
    load_whole,
    save_whole,
    share_files,
    stored_dtype,
    torch_dtype,
)
from sims.deltas.published import find_published
from sims.deltas.record import EditRecord, read_record, render_card
from sims.deltas.reversal_files import find_reversal, load_reversals


@dataclass(frozen=True, slots=True)
class Restoration:
    """How exactly an edit was reverted.

    Attributes:
        exact: Whether the weights are the base's, bit for bit.
        missed: How many entries differ; None if that is unknown.
        entries: How many numbers the edited weights have.
        largest_gap: The largest difference, or a bound on it if `missed` is None.
        dtype: Precision of the restored model.
        changed: Whether the model is known to have been changed after the edit.
    """

    exact: bool
    missed: int | None
    entries: int
    largest_gap: float
    dtype: str
    changed: bool = False

    def describe(self) -> str:
        """Describe it in a sentence."""
        if self.exact:
            return (
                f"The weights are those of the base model, bit for bit ({self.dtype})."
            )
        if self.missed is None:
            origin = (
                "The model was changed after the edit"
                if self.changed
                else "The weights are not known to be the base model's"
            )
            return (
                f"{origin}: the delta was subtracted in {self.dtype}, and of it "
                f"{self.largest_gap:.3g} at most is left in each of the {self.entries} "
                "edited entries; any other change is still there."
            )
        return (
            f"The weights are not quite the base model's: {self.missed} of the "
            f"{self.entries} edited entries differ, by {self.largest_gap:.3g} at most "
            f"({self.dtype})."
        )


def revert_delta(
    model_path: Path,
    delta_path: Path,
    output: Path,
    *,
    max_shard_size: str = SHARD_SIZE,
) -> Restoration:
    """Write the model as it was before a delta was added.

    Exact where the folder holds what `apply_delta` kept; elsewhere the delta is
    subtracted, and the difference is reported. An `InputError` is raised if an input
    cannot be read, or the delta is not the latest one applied.
    """
    refuse_existing(output)
    check_shard_size(max_shard_size)
    delta = find_delta(delta_path)
    record = read_record(model_path)
    if record is not None:
        check_order(record, delta.fingerprint(), delta.path, model_path)
    dtype = record.dtype if record is not None else stored_dtype(model_path)
    edited = load_whole(str(model_path), dtype)
    check_shapes(delta, edited)
    whole = find_published(edited, str(model_path), delta.shapes)
    untouched = record is None or record.edited == fingerprint_model(edited)
    kept = load_reversals(model_path) if record is not None and untouched else {}
    ran_in = dtype_of(delta, dtype) if record is None else record.run_dtype
    if record is None:
        check_edited(edited, delta, model_path, ran_in)
    with create_output_folder(output) as draft:
        bound = restore_weights(edited, delta, kept, torch_dtype(ran_in))
        found = check_restoration(edited, delta, record, bound, changed=not untouched)
        save_whole(edited, str(model_path), draft, max_shard_size, whole)
        earlier = restore_edits(model_path, draft)
        words: dict[str, object] = {"earlier": earlier}
        words |= {"name": public_name(str(model_path)), "verdict": found.describe()}
        words |= {"delta": delta.fingerprint(), "dtype": found.dtype}
        write_whole(draft / "README.md", render_card("reverted.md.j2", **words))
        share_files(draft)
    return found


def check_edited(
    model: nn.Module, delta: DeltaFile, model_path: Path, ran_in: str
) -> None:
    """Refuse to subtract a delta from the base.

    Raises:
        InputError: If the model is the base.
    """
    if fingerprint_model(model, torch_dtype(ran_in)) == delta.metadata.get("base"):
        raise InputError(
            f"{model_path} is the base that {delta.path} was made for, so there is "
            "nothing to undo; name the folder of the edited model"
        )


@torch.no_grad()
def restore_weights(
    model: nn.Module,
    delta: DeltaFile,
    kept: dict[str, Tensor],
    ran_in: torch.dtype,
) -> float:
    """Subtract each update from its weight; return a bound on the rounding.

    Args:
        model: The edited model, restored in place.
        delta: What was added.
        kept: What undoes the edit exactly, where it was kept.
        ran_in: The precision in which it was added.
    """
    bound = 0.0
    for name in follow(delta.shapes, "restoring"):
        weight = model.get_parameter(name)
        update = stored_way(name, read_update(delta, name), model).to(ran_in)
        bound = max(bound, bound_of_rounding(weight, update))
        reversal = find_reversal(kept, name)
        if reversal is None:
            weight.copy_(subtract(weight, update))
        else:
            weight.copy_(undo(weight, update, reversal).reshape(weight.shape))
    return bound


def check_restoration(
    model: nn.Module,
    delta: DeltaFile,
    record: EditRecord | None,
    bound: float,
    *,
    changed: bool,
) -> Restoration:
    """Compare the restored weights with the fingerprint of the base.

    Args:
        model: The restored model.
        delta: What was subtracted.
        record: The record of the edit; None without one.
        bound: The most that subtraction alone may have missed.
        changed: Whether the model was changed after the edit.
    """
    entries = sum(d_out * d_in for d_out, d_in in delta.shapes.values())
    first = next(iter(delta.shapes))
    dtype = dtype_name(model.get_parameter(first).dtype)
    if record is None:
        ran_in = torch_dtype(dtype_of(delta, dtype))
        exact = fingerprint_model(model, ran_in) == delta.metadata.get("base")
    else:
        exact = fingerprint_model(model) == record.base_as_written
    if exact:
        return Restoration(True, 0, entries, 0.0, dtype)
    if record is None or changed:
        return Restoration(False, None, entries, bound, dtype, changed)
    return Restoration(False, record.missed, entries, record.largest_gap, dtype)
