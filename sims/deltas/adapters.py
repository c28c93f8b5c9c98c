"""Write a delta as an adapter that PEFT loads onto the base model."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn

from editing.algebra.deltas import DeltaFile, stores_transposed
from editing.algebra.low_rank import Spectrum, decompose
from editing.base.errors import InputError
from server.output import create_output_folder, refuse_existing
from sims.deltas.export import frobenius, load_base
from sims.deltas.files import find_delta, public_name, read_update
from sims.deltas.model_folders import (
    dtype_name,
    follow,
    hub_name,
    share_files,
    torch_dtype,
)
from sims.deltas.published import published_names
from sims.deltas.record import EditRecord, WeightChange, public_facts, write_record

FULL_RANK = "full"


@dataclass(frozen=True, slots=True)
class Rank:
    """How many singular values of each update an adapter keeps.

    Attributes:
        limit: The most to keep; None keeps all.
        energy: Keep as few as hold this share of ``‖Δ‖²``; None for no such limit.
    """

    limit: int | None = None
    energy: float | None = None

    def of(self, spectrum: Spectrum) -> int:
        """Return the rank for one update; at least 1, as PEFT knows no rank 0."""
        chosen = spectrum.rank
        if self.energy is not None:
            chosen = spectrum.rank_for(self.energy)
        if self.limit is not None:
            chosen = min(chosen, self.limit)
        return max(chosen, 1)


def read_rank(rank: str | None, energy: float | None) -> Rank:
    """Read the command line's options for ranks.

    Args:
        rank: A whole number, or ``full``.
        energy: A share of ``‖Δ‖²``.

    Raises:
        InputError: If one is out of range, or neither is given.
    """
    if rank is None and energy is None:
        raise InputError(
            "an adapter wants --rank R, --rank full, or --energy 0.99, which keeps "
            "that share of each update"
        )
    if energy is not None and not 0 < energy <= 1:
        raise InputError(f"--energy {energy}: wanted a share above 0, at most 1")
    if rank is None or rank == FULL_RANK:
        return Rank(None, energy)
    if not rank.isdecimal() or int(rank) < 1:
        raise InputError(f"--rank {rank!r}: wanted a whole number from 1 on, or `full`")
    return Rank(int(rank), energy)


def write_adapter(
    model_path: str,
    delta_path: Path,
    output: Path,
    rank: Rank,
    *,
    dtype: str | None = None,
    force_base: bool = False,
) -> EditRecord:
    """Write a LoRA adapter: ``Δ ≈ B A`` by truncated singular value decomposition.

    It loads with ``PeftModel.from_pretrained(base, output)`` and names the edited
    weights alone. ``lora_alpha`` is the rank, so that the product is added as it is
    (Hu et al., arXiv:2106.09685, section 4.1).

    Args:
        model_path: The base: a folder, a hub name or ``embedded``.
        delta_path: The delta's file, or a run's folder with one.
        output: The folder to make, whole or not at all.
        rank: How many singular values are kept.
        dtype: Precision of the adapter's matrices; float32 if left out. Also of the
            run, if an older delta's file does not name it.
        force_base: Write it even if the delta was made for another base.
    """
    refuse_existing(output)
    written = torch_dtype(dtype or "float32")
    delta = find_delta(delta_path)
    base, found = load_base(model_path, delta, dtype, force=force_base)
    architecture, names = published_names(base, model_path, delta.shapes)
    tensors: dict[str, Tensor] = {}
    with create_output_folder(output) as draft:
        changes = tuple(factorise(base, delta, rank, written, tensors, names))
        save_file(tensors, draft / "adapter_model.safetensors", {"format": "pt"})
        write_config(lora_config(base, changes, model_path, names), draft)
        record = EditRecord(
            base_name=public_name(model_path),
            base=found,
            base_as_written=found,
            delta=delta.fingerprint(),
            forced=found != delta.metadata.get("base"),
            run_dtype=dtype_name(base.dtype),
            dtype=dtype_name(written),
            facts=public_facts(delta.metadata),
            changes=changes,
            model_class=architecture,
        )
        loader = "AutoModelForCausalLM" if type(base).__name__ == architecture else ""
        words = {"hub_name": hub_name(model_path), "loader": loader or architecture}
        write_record(record, draft, "adapter.md.j2", **words)
        share_files(draft)
    return record


def factorise(
    model: nn.Module,
    delta: DeltaFile,
    rank: Rank,
    written: torch.dtype,
    tensors: dict[str, Tensor],
    names: Mapping[str, str],
) -> Iterator[WeightChange]:
    """Split each update in two, in float64, and measure what the truncation keeps.

    Args:
        model: The base.
        delta: What is split.
        rank: How many singular values are kept.
        written: Precision of the parts.
        tensors: Is filled with them, by PEFT's names.
        names: What the class that PEFT adapts calls each weight.

    Yields:
        What was kept of each update.
    """
    for name, (d_out, d_in) in follow_shapes(delta):
        update = read_update(delta, name)
        spectrum = decompose(update)
        kept = rank.of(spectrum)
        up, down = spectrum.factors(kept)
        place = f"base_model.model.{names[name].removesuffix('.weight')}"
        tensors[f"{place}.lora_A.weight"] = fit(down, written, delta, name)
        tensors[f"{place}.lora_B.weight"] = fit(up, written, delta, name)
        whole, size = frobenius(model.get_parameter(name)), frobenius(update)
        yield WeightChange(
            name=name,
            shape=(d_out, d_in),
            norm=size,
            relative=size / whole if whole > 0 else float(size > 0),
            rank=kept,
            full_rank=spectrum.rank,
            energy=spectrum.energy(kept),
        )


def fit(part: Tensor, written: torch.dtype, delta: DeltaFile, name: str) -> Tensor:
    """Round a factor to the written precision.

    Raises:
        InputError: If it is beyond the range of that precision.
    """
    rounded = part.to(written).contiguous()
    if not rounded.isfinite().all():
        raise InputError(
            f"{delta.path}: a factor of `{name}` reaches {part.abs().max():.3g}, "
            f"more than {dtype_name(written)} can hold; try --dtype float32"
        )
    return rounded


def follow_shapes(delta: DeltaFile) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the updates with a progress bar, each with its ``(d_out, d_in)``."""
    for name in follow(delta.shapes, "factorising"):
        d_out, d_in = delta.shapes[name]
        yield name, (d_out, d_in)


def lora_config(
    model: nn.Module,
    changes: tuple[WeightChange, ...],
    model_path: str,
    names: Mapping[str, str] | None = None,
) -> LoraConfig:
    """Describe the adapter to PEFT: full names, so that no other layer is touched.

    Args:
        model: The base, as the delta names its weights.
        changes: The edited weights, each with its rank.
        model_path: Where the base was loaded from.
        names: What the class that PEFT adapts calls each weight, if otherwise.

    Raises:
        InputError: If edited modules keep their weights different ways round.
    """
    ranks = {
        (names or {}).get(change.name, change.name).removesuffix(".weight"): change.rank
        or 1
        for change in changes
    }
    ways = {
        stores_transposed(model.get_submodule(change.name.removesuffix(".weight")))
        for change in changes
    }
    if len(ways) > 1:
        raise InputError(
            "the delta edits Linear and Conv1D modules at once, and an adapter knows "
            "one of the two; use --as model"
        )
    most = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != most}
    return LoraConfig(
        r=most,
        lora_alpha=most,
        target_modules=sorted(ranks),
        rank_pattern=others,
        alpha_pattern=dict(others),
        fan_in_fan_out=ways.pop(),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=public_name(model_path),
        inference_mode=True,
    )


def write_config(config: LoraConfig, folder: Path) -> None:
    """Write ``adapter_config.json`` as PEFT does, with lists in a fixed order."""
    fields: Mapping[str, object] = config.to_dict()  # type: ignore[no-untyped-call]
    plain = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in fields.items()
    }
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
