"""The prior's covariance: the mean of ``k kᵀ`` over plain text."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from editing.activations import module_inputs, stopping_after
from editing.architectures import EditableModel
from editing.errors import InputError
from editing.prompts import TokenRow, batches_by_length, pad_rows, tokenize_text


class CovarianceError(InputError):
    """A covariance that cannot be read or belongs to another model."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a covariance comes from.

    Attributes:
        fingerprint: Of the model, see `EditableModel.fingerprint`; empty if not known.
        dataset: Name of the text.
        tokens: Number of tokens averaged.
    """

    fingerprint: str
    dataset: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Covariance:
    """``C₀ = mean of k kᵀ`` of each layer (arXiv 2210.07229, equation 15).

    Attributes:
        moments: By layer, ``d_in × d_in`` in float64, not centred.
        provenance: Where they come from.
    """

    moments: Mapping[int, Float[Tensor, "d_in d_in"]]
    provenance: Provenance

    def check(self, model: EditableModel, layers: Sequence[int]) -> None:
        """Refuse a covariance of another model, width or set of layers.

        Raises:
            CovarianceError: Naming what differs.
        """
        own = self.provenance.fingerprint
        if own and own != model.fingerprint:
            raise CovarianceError(
                f"`prior.covariance` was computed for another model (fingerprint "
                f"{own[:12]}…, this model's is {model.fingerprint[:12]}…). Use "
                "`compute`, or the file of this model."
            )
        for layer in layers:
            if layer not in self.moments:
                raise CovarianceError(
                    f"`prior.covariance` has layers {sorted(self.moments)}, and layer "
                    f"{layer} is to be edited."
                )
            width, wanted = self.moments[layer].shape[0], model.widths(layer)[1]
            if width != wanted:
                raise CovarianceError(
                    f"`prior.covariance` of layer {layer} is {width} wide and this "
                    f"model's keys are {wanted} wide. Was it made for another model?"
                )


def compute_covariance(
    model: EditableModel,
    texts: Iterable[str],
    layers: Sequence[int],
    dataset: str,
    batch_tokens: int = 4096,
    on_batch: Callable[[int], None] | None = None,
) -> Covariance:
    """Stream texts through the model and average ``k kᵀ`` over all their tokens.

    Keys are in the model's precision, products and sums in float64. Texts longer than
    the model's context are cut into pieces of that length.

    Raises:
        CovarianceError: If the texts hold no token.
    """
    sums = {
        layer: torch.zeros((model.widths(layer)[1],) * 2, dtype=torch.float64)
        for layer in layers
    }
    rows = [row for text in texts for row in _pieces(model, text)]
    longest = max((len(row.ids) for row in rows), default=1)
    done = 0
    for indices in batches_by_length(rows, max(1, batch_tokens // longest)):
        batch = pad_rows([rows[index] for index in indices], model.device)
        projections = {layer: model.down_projection(layer) for layer in layers}
        with torch.no_grad(), module_inputs(projections) as keys:
            with stopping_after(model.block(max(layers))):
                model.model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask
                )
            held = batch.attention_mask.bool()
            for layer in layers:
                key = keys[layer][held].double()
                sums[layer].addmm_(key.mT.cpu(), key.cpu())
        done += int(batch.attention_mask.sum())
        if on_batch is not None:
            on_batch(done)
    if done == 0:
        raise CovarianceError(
            f"The text {dataset} for the covariance holds no token. Name a text file "
            "with `prior.text`."
        )
    means = {layer: total / done for layer, total in sums.items()}
    return Covariance(means, Provenance(model.fingerprint, dataset, done))


def _pieces(model: EditableModel, text: str) -> list[TokenRow]:
    row = tokenize_text(model.tokenizer, text)
    size = model.longest_input
    cuts = [row.ids[start : start + size] for start in range(0, len(row.ids), size)]
    return [TokenRow(ids, len(ids) - 1) for ids in cuts]


def save_covariance(covariance: Covariance, path: Path) -> None:
    """Write moments and provenance to safetensors, beside its place first."""
    tensors = {f"moment.{k}": v.contiguous() for k, v in covariance.moments.items()}
    metadata = {"provenance": json.dumps(asdict(covariance.provenance))}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(save(tensors, metadata))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_covariance(paths: Sequence[Path], layers: Sequence[int]) -> Covariance:
    """Read a covariance of ours, or the ``.npz`` files of ROME and MEMIT.

    Args:
        paths: One safetensors file, or one ``.npz`` for each layer.
        layers: The edited layers, in the order of the ``.npz`` files.

    Raises:
        CovarianceError: If a file is missing, or neither format.
    """
    if len(paths) == 1 and paths[0].suffix != ".npz":
        return _load_own(paths[0])
    if len(paths) != len(layers):
        raise CovarianceError(
            f"`prior.covariance` names {len(paths)} .npz files for {len(layers)} "
            "edited layers; wanted one each, in the order of `layers`."
        )
    found = [_load_npz(path) for path in paths]
    tokens = min(count for _, count in found)
    moments = {layer: moment for layer, (moment, _) in zip(layers, found, strict=True)}
    return Covariance(moments, Provenance("", paths[0].name, tokens))


def _load_own(path: Path) -> Covariance:
    try:
        with safe_open(path, framework="pt") as file:
            provenance = Provenance(**json.loads(file.metadata()["provenance"]))
            moments = {
                int(name.removeprefix("moment.")): file.get_tensor(name).double()
                for name in file.keys()  # noqa: SIM118 - safe_open is no mapping
            }
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise CovarianceError(
            f"{path}: no covariance can be read ({error}). Wanted a file written by a "
            'run with `prior.covariance = "compute"`, or MEMIT\'s .npz.'
        ) from None
    return Covariance(moments, provenance)


def _load_npz(path: Path) -> tuple[Tensor, int]:
    try:
        with np.load(path, allow_pickle=False) as file:
            total = torch.from_numpy(file["mom2.mom2"]).double()
            count = int(file["mom2.count"])
    except (OSError, EOFError, BadZipFile, TypeError, KeyError, ValueError) as error:
        raise CovarianceError(
            f"{path}: no ROME/MEMIT covariance can be read ({error}). Wanted the "
            "arrays `mom2.mom2` and `mom2.count`."
        ) from None
    return total / count, count
