"""Covariance files: our own, and those of ROME, MEMIT and EasyEdit.

Theirs hold ``mom2.mom2``, the **sum** of ``k kᵀ``, and ``mom2.count``, one ``.npz`` a
layer, in ``<stats>/<model>/<dataset>_stats/<module>_<precision>_mom2_<samples>.npz``.
ROME and MEMIT write the model's hub name with ``_`` for ``/``, EasyEdit its last part.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.base.validation import explain
from editing.covariance.covariance import Covariance, CovarianceError, Provenance
from editing.covariance.mapping import PublishedMeans, PublishedSum, read_member
from editing.covariance.published import check_names, find_files
from editing.files.atomic import partial_file
from editing.files.npy import ArrayHeader
from editing.files.text import explain_text_error
from editing.models.loading import EditableModel

ASYMMETRY = 1e-3
"""Largest relative difference of mirrored entries in single precision."""

_WIDE = 4096
_PRECISIONS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_PROVENANCE = TypeAdapter(Provenance)
_UNREADABLE = (OSError, EOFError, TypeError, KeyError, ValueError, RuntimeError)
"""What the libraries raise of a damaged file."""
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
    widths = [None if model is None else model.widths(each)[1] for each in layers]
    found = [load_published(*each) for each in zip(paths, widths, strict=True)]
    tokens = min(each.tokens for each in found)
    means = PublishedMeans(dict(zip(layers, found, strict=True)))
    return Covariance(means, Provenance("", paths[0].name, tokens))


def load_published(path: Path, width: int | None = None) -> PublishedSum:
    """Read one ``.npz`` of ROME, MEMIT or EasyEdit: a sum, and over how many tokens.

    The sum is mapped, and the mean computed from it when it is wanted.

    Args:
        path: The archive.
        width: ``d_in`` of the layer; an array of another width is refused before any
            of its numbers is read. None reads any.

    Raises:
        CovarianceError: If it holds no such sum, or one that no tokens can give.
    """

    def check(header: ArrayHeader) -> None:
        _check_shape(header.shape, f"{path}: `mom2.mom2`", width)

    try:
        total = torch.from_numpy(read_member(path, "mom2.mom2", check))
        count = int(read_member(path, "mom2.count", _check_single).item())
        if total.dtype not in {torch.float32, torch.float64}:
            total = total.double()
    except CovarianceError:
        raise
    except (*_UNREADABLE, BadZipFile) as error:
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
    with path.open("rb") as file:
        begins = file.read(9)
    if begins[8:] == b"{":  # the length of a header, then the header in JSON
        return "it is safetensors; one of ours is named alone, and as .safetensors"
    if isinstance(error, ValueError):
        return str(error)
    return "it is no archive of arrays of numbers, or a damaged one"


def _check_single(header: ArrayHeader) -> None:
    """Refuse by its header a count that is no single number.

    Raises:
        ValueError: If it is an array of several.
    """
    if math.prod(header.shape) != 1:
        raise ValueError(f"`mom2.count` is of the shape {header.shape}")


def _check_shape(shape: Sequence[int], name: str, width: int | None = None) -> None:
    """Refuse what is no square matrix, or is of another width.

    Raises:
        CovarianceError: Naming the shape that came.
    """
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        shown = " × ".join(map(str, shape)) or "a single number"
        raise CovarianceError(f"{name} is {shown}; wanted a square matrix.")
    if width is not None and shape[0] != width:
        raise CovarianceError(
            f"{name} is {shape[0]} wide and this model's keys are {width} wide. Was it "
            "made for another model?"
        )


def check_moment(moment: Tensor, name: str) -> None:
    """Refuse a matrix that cannot be a sum of ``k kᵀ``.

    Raises:
        CovarianceError: If it is not square, not finite, not symmetric, or has a
            negative entry on its diagonal.
    """
    _check_shape(moment.shape, name)
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
            provenance = _read_provenance(file.metadata()["provenance"])
            moments = {
                int(name.removeprefix("moment.")): _read_moment(file.get_tensor(name))
                for name in file.keys()  # noqa: SIM118 - safe_open is no mapping
            }
    except CovarianceError:
        raise
    except (*_UNREADABLE, SafetensorError) as error:
        raise CovarianceError(
            f"{path}: no covariance can be read ({explain_text_error(error)}). "
            'Wanted a file written by a run with `prior.covariance = "compute"` or by '
            "`python -m sims covariance`, or MEMIT's .npz."
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


def _read_moment(tensor: Tensor) -> Tensor:
    """Return a moment in float64.

    Raises:
        ValueError: If it is not of real numbers in one of the usual precisions.
    """
    if tensor.dtype not in _PRECISIONS:
        raise ValueError(f"it holds {tensor.dtype} instead of real numbers")
    return tensor.double()


def _read_provenance(text: str) -> Provenance:
    """Read where a covariance comes from; older files say less of it.

    Raises:
        ValueError: If it is no object with the fields of `Provenance`.
    """
    try:
        found = _PROVENANCE.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"its `provenance`: {explain(error)}") from None
    bare = sorted(layer for layer in found.ridges if layer not in found.ranks)
    if bare:
        raise ValueError(f"its `provenance` has no rank of layer {bare[0]}")
    return found
