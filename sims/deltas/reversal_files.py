"""The file next to an edited model that undoes the edit."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.algebra.reversal import Reversal
from editing.base.errors import InputError
from sims.deltas.record import FOLDER, REVERSAL

POSITIONS, VALUES, WHOLE = ".positions", ".values", ".whole"


def enter_reversal(kept: dict[str, Tensor], name: str, reversal: Reversal) -> None:
    """Add what undoes the edit of a weight, under its names in the file."""
    if reversal.positions is None:
        kept[name + WHOLE] = reversal.values
    else:
        kept[name + POSITIONS] = reversal.positions
        kept[name + VALUES] = reversal.values


def find_reversal(kept: dict[str, Tensor], name: str) -> Reversal | None:
    """Find what undoes the edit of a weight, if it was kept."""
    if name + WHOLE in kept:
        return Reversal(kept[name + WHOLE], None)
    if name + VALUES in kept:
        return Reversal(kept[name + VALUES], kept[name + POSITIONS])
    return None


def save_reversals(kept: dict[str, Tensor], folder: Path) -> int:
    """Write what undoes the edit, and return its size in bytes."""
    path = folder / REVERSAL
    path.parent.mkdir(exist_ok=True)
    save_file({name: each.contiguous() for name, each in kept.items()}, path)
    return path.stat().st_size


def load_reversals(folder: Path) -> dict[str, Tensor]:
    """Read what undoes the edit; empty if it was not kept.

    Raises:
        InputError: If the file is there and cannot be read.
    """
    path = folder / REVERSAL
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); move {FOLDER} away to subtract the "
            "delta without it"
        ) from None
