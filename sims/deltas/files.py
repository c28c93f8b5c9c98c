"""Delta files for the commands: found, opened, and validated against a model."""

from pathlib import Path
from typing import TYPE_CHECKING

from editing.algebra.deltas import DeltaFile, check_shape, open_delta
from editing.base.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "delta.safetensors"
DEFAULT_DTYPE = "float32"


def find_delta(path: Path) -> DeltaFile:
    """Open a delta file, or the one in a run's folder.

    Raises:
        InputError: If there is none, several, or the file cannot be read or is empty.
    """
    file = path
    if path.is_dir():
        found = [path / FILE] if (path / FILE).is_file() else []
        found = found or sorted(path.glob(f"*/{FILE}"))
        if len(found) != 1:
            names = ", ".join(str(each.relative_to(path)) for each in found) or "none"
            raise InputError(
                f"{path}: wanted a folder with one {FILE}, found {names}; name the file"
            )
        (file,) = found
    delta = open_delta(file)
    if not delta.shapes:
        raise InputError(f"{file}: the delta holds no updates")
    return delta


def read_update(delta: DeltaFile, name: str) -> "Tensor":
    """Read one update.

    Raises:
        InputError: If an entry is NaN, infinite, or beyond the range of float32, in
            which runs write them.
    """
    update = delta.read(name)
    if not update.float().isfinite().all():
        raise InputError(
            f"{delta.path}: the update of `{name}` has entries that are NaN or "
            "infinite, or beyond float32, which no edit is; run again with "
            "`model.dtype` float32"
        )
    return update


def dtype_of(delta: DeltaFile, named: str | None = None) -> str:
    """Return the precision of the run's model, as far as the file names it.

    Args:
        delta: The file; older ones do not name it.
        named: The precision for older files; float32 if absent.
    """
    return str(delta.metadata.get("dtype") or named or DEFAULT_DTYPE)


def check_shapes(delta: DeltaFile, model: "nn.Module") -> None:
    """Validate every update against the weight that it names.

    Raises:
        InputError: If one names no weight of the model, or one of another shape.
    """
    for name, shape in delta.shapes.items():
        try:
            check_shape(name, shape, model)
        except (ValueError, TypeError) as error:
            raise InputError(f"{delta.path}: {error}") from None


def check_base(delta: DeltaFile, found: str, dtype: str) -> None:
    """Validate that a delta was made for a model.

    Args:
        delta: The file.
        found: The model's fingerprint.
        dtype: The precision it was loaded in, on which the fingerprint depends.

    Raises:
        InputError: If it was made for another one, or the file does not name it.
    """
    base = delta.metadata.get("base")
    if base is None:
        raise InputError(
            f"{delta.path} does not name the model that it was made for (no `base` in "
            "its metadata); if you know that it is this one, use --force-base"
        )
    if base != found:
        raise InputError(
            f"{delta.path} was made for a model with weights {str(base)[:12]}…, and "
            f"this has {found[:12]}… (loaded as {dtype}); give that run's model, or "
            "--force-base to edit this one anyway"
        )


def public_name(model_path: str) -> str:
    """Return a model's public name: a folder's last part, without its place."""
    folder = Path(model_path)
    return folder.resolve().name if folder.exists() else model_path
