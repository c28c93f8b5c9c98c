"""Covariance files: our own, and those of ROME, MEMIT and EasyEdit.

Theirs hold ``mom2.mom2``, the **sum** of ``k kᵀ``, and ``mom2.count``, one ``.npz`` a
layer, in ``<stats>/<model>/<dataset>_stats/<module>_<precision>_mom2_<samples>.npz``.
ROME and MEMIT write the model's hub name with ``_`` for ``/``, EasyEdit its last part.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.covariance.covariance import Covariance, CovarianceError, Provenance
from editing.covariance.mapping import PublishedMeans, PublishedSum, read_array
from editing.covariance.published import check_names, find_files
from editing.files.atomic import partial_file
from editing.models.loading import EditableModel

ASYMMETRY = 1e-3
"""Largest relative difference of mirrored entries in single precision."""

_WIDE = 4096
_MOMENT = re.compile(r"moment\.\d+")


def save_covariance(covariance: Covariance, path: Path) -> None:
    """Write moments and provenance to safetensors, whole or not at all.

    Raises:
        CovarianceError: If no such file can be written.
    """
    tensors = {f"moment.{k}": v.contiguous() for k, v in covariance.moments.items()}
    metadata = {
        "provenance": json.dumps(asdict(covariance.provenance), allow_nan=False)
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as partial:
            save_file(tensors, partial, metadata)
    except (OSError, SafetensorError) as error:
        raise CovarianceError(
            f"{path}: the covariance cannot be written ({error}). Wanted a place with "
            "room for it, in which files may be made."
        ) from None


def load_covariance(
    paths: Sequence[Path], layers: Sequence[int], model: EditableModel | None = None
) -> Covariance:
    """Read a covariance of ours, or the ``.npz`` files of ROME, MEMIT and EasyEdit.

    Args:
        paths: One safetensors file, one folder in the published layout, or one
            ``.npz`` for each layer.
        layers: The edited layers, in the order of the ``.npz`` files.
        model: The model that the files must be of; without it names are not checked.

    Raises:
        CovarianceError: If a file is missing, neither format, or of another model or
            layer by its name.
    """
    if len(paths) == 1 and paths[0].is_dir():
        if model is None:
            raise CovarianceError(
                f"{paths[0]} is a folder; name the files in it, one for each layer."
            )
        paths = find_files(paths[0], model, layers)
    if len(paths) == 1 and paths[0].suffix != ".npz":
        return _load_own(paths[0])
    if len(paths) != len(layers):
        raise CovarianceError(
            f"`prior.covariance` names {len(paths)} .npz files for {len(layers)} "
            "edited layers; wanted one each, in the order of `layers`, or the folder "
            "that holds them."
        )
    if model is not None:
        check_names(paths, model, layers)
    found = [load_published(path) for path in paths]
    tokens = min(each.tokens for each in found)
    means = PublishedMeans(dict(zip(layers, found, strict=True)))
    return Covariance(means, Provenance("", paths[0].name, tokens))


def load_published(path: Path) -> PublishedSum:
    """Read one ``.npz`` of ROME, MEMIT or EasyEdit: a sum, and over how many tokens.

    The sum is mapped, and the mean computed from it when it is wanted.

    Raises:
        CovarianceError: If it holds no such sum, or one that no tokens can give.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            total = torch.from_numpy(read_array(path, "mom2.mom2"))
            count = int(file["mom2.count"])
        if total.dtype not in {torch.float32, torch.float64}:
            total = total.double()
    except (OSError, EOFError, BadZipFile, TypeError, KeyError, ValueError) as error:
        raise CovarianceError(
            f"{path}: no ROME/MEMIT covariance can be read ({_why_not(path, error)}). "
            "Wanted the arrays `mom2.mom2` and `mom2.count`."
        ) from None
    if count <= 0:
        raise CovarianceError(
            f"{path}: `mom2.count` is {count}, and a sum over no token has no mean. "
            "Compute the statistics again."
        )
    check_moment(total, f"{path}: `mom2.mom2`")
    return PublishedSum(total, count)


def _why_not(path: Path, error: Exception) -> str:
    """Explain in our words: NumPy advises to load files that may run code."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return str(error.args[0])
    with path.open("rb") as file:
        begins = file.read(9)
    if begins[8:] == b"{":  # the length of a header, then the header in JSON
        return "it is safetensors; one of ours is named alone, and as .safetensors"
    return "it is no archive of arrays of numbers, or a damaged one"


def check_moment(moment: Tensor, name: str) -> None:
    """Refuse a matrix that cannot be a sum of ``k kᵀ``.

    Raises:
        CovarianceError: If it is not square, not finite, not symmetric, or has a
            negative entry on its diagonal.
    """
    if moment.dim() != 2 or moment.shape[0] != moment.shape[1]:
        shape = " × ".join(str(size) for size in moment.shape) or "a single number"
        raise CovarianceError(f"{name} is {shape}; wanted a square matrix.")
    wrong = None
    if not all(bool(part.isfinite().all()) for part in moment.split(_WIDE)):
        wrong = "holds entries that are no finite numbers"
    elif bool((moment.diagonal() < 0).any()):
        wrong = "has a negative entry on its diagonal, which holds sums of squares"
    elif _asymmetry(moment) > ASYMMETRY:
        wrong = "is not symmetric"
    if wrong is not None:
        raise CovarianceError(
            f"{name} {wrong}; no second moment is like that. The file is damaged or "
            "of another kind: compute it again."
        )


def _asymmetry(moment: Float[Tensor, "d_in d_in"]) -> float:
    """Largest difference from the mirror image, as a share of the largest entry."""
    least, most = map(float, torch.aminmax(moment))
    largest = max(-least, most, torch.finfo(torch.float64).tiny)
    differences = [
        (moment[start : start + _WIDE] - moment[:, start : start + _WIDE].mT).abs()
        for start in range(0, len(moment), _WIDE)
    ]
    difference = max(float(each.max()) for each in differences)
    return difference / largest


def _load_own(path: Path) -> Covariance:
    try:
        with safe_open(path, framework="pt") as file:
            _check_kind(path, file.metadata() or {}, list(file.keys()))
            provenance = _read_provenance(json.loads(file.metadata()["provenance"]))
            moments = {
                int(name.removeprefix("moment.")): file.get_tensor(name).double()
                for name in file.keys()  # noqa: SIM118 - safe_open is no mapping
            }
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise CovarianceError(
            f"{path}: no covariance can be read ({error}). Wanted a file written by a "
            'run with `prior.covariance = "compute"` or by `python -m sims '
            "covariance`, or MEMIT's .npz."
        ) from None
    if provenance.tokens <= 0:
        raise CovarianceError(
            f"{path}: its provenance says {provenance.tokens} tokens, and there is no "
            "mean over none. Compute it again."
        )
    for layer, moment in moments.items():
        check_moment(moment, f"{path}: the moment of layer {layer}")
    return Covariance(moments, provenance)


def _check_kind(path: Path, metadata: dict[str, str], tensors: list[str]) -> None:
    """Refuse safetensors files that hold no covariance.

    Raises:
        CovarianceError: Naming what the file holds instead.
    """
    strange = sorted(name for name in tensors if not _MOMENT.fullmatch(name))
    if "provenance" in metadata and tensors and not strange:
        return
    fault = f"it holds {strange[0]}" if strange else "it names no `provenance`"
    fault = fault if tensors else "it is empty"
    raise CovarianceError(
        f"{path}: is a safetensors file and no covariance ({fault}). Wanted tensors "
        "`moment.LAYER` and where they come from. Is it a weight delta, or a model's "
        "weights? Name a file that `python -m sims covariance` wrote."
    )


def _read_provenance(held: dict[str, Any]) -> Provenance:
    """Make layers numbers again, which JSON wrote as text; old files lack some."""
    for name in ("ranks", "ridges"):
        held[name] = {int(layer): value for layer, value in held.get(name, {}).items()}
    return Provenance(**held)
