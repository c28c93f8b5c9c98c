"""The parties' statistics of a run, kept so that a party can be removed later.

A merge has a folder, a round of it a folder, and each party and layer a file of float64
tensors: the rows that the server decoded, or the sums of dense ones. Only the owner may
read them: statistics tell whether a guessed subject was edited.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.algebra.second_moments import (
    read_triangle,
    write_triangle,
)
from editing.algebra.statistics import LayerStatistics, Sums
from editing.base.errors import InputError
from editing.files.atomic import PRIVATE_FILE, make_private, partial_file
from server.checkpoints import file_name
from strategies.wire.messages import Phase

STATISTICS = "statistics"
"""The folder's name, next to a checkpoint and among the results."""

COVARIANCE = "covariance.safetensors"
"""A covariance of the parties' own texts, next to a run's report."""

KEYS, RESIDUALS, GRAM, CROSS, COUNT = "keys", "residuals", "gram", "cross", "count"
SOLVED, REMEMBERED = "solved", "remembered"
UNFINISHED = ".unfinished"

_ROUND = re.compile(r"round_(\d+)")
_FILE = re.compile(rf"({SOLVED}|{REMEMBERED})\.layer_(\d+)\.party_(\d+)\.safetensors")

ByParty = dict[int, LayerStatistics]


@dataclass(frozen=True, slots=True)
class KeptRound:
    """The statistics of one round, by layer and party's id.

    Attributes:
        solved: What the round's update was solved from.
        remembered: Keys read again on the edited model, if those are remembered.
    """

    solved: dict[int, ByParty] = field(default_factory=dict)
    remembered: dict[int, ByParty] = field(default_factory=dict)

    @property
    def parties(self) -> set[int]:
        """Who took part."""
        return {party for parts in self.solved.values() for party in parts}


@dataclass(frozen=True, slots=True)
class KeptStatistics:
    """The folder of one merge; nothing is kept if there is none."""

    folder: Path | None = None

    @classmethod
    def of(cls, folder: Path | None, merge: str) -> "KeptStatistics":
        """Return the folder of a merge within that of a run."""
        return cls() if folder is None else cls(folder / file_name(merge))

    def begin(self, number: int) -> None:
        """Forget what a stopped attempt of a round kept, and later rounds."""
        if self.folder is None or number < 1:
            return
        make_private(self.folder)
        for path in self.folder.iterdir():
            if path.name.endswith(UNFINISHED) or _number(path) >= number:
                shutil.rmtree(path)
        make_private(self._draft(self.folder))

    def keep(self, phase: Phase, layer: int, party: int, part: LayerStatistics) -> None:
        """Write what one party sent for one layer."""
        if self.folder is None:
            return
        kind = REMEMBERED if phase is Phase.MEMORY else SOLVED
        name = f"{kind}.layer_{layer}.party_{party}.safetensors"
        with partial_file(self._draft(self.folder) / name, PRIVATE_FILE) as file:
            save_file(_to_tensors(part), file, {COUNT: str(part.count)})

    def end(self, number: int) -> None:
        """Complete a round."""
        if self.folder is not None and number > 0:
            self._draft(self.folder).rename(self.folder / f"round_{number:03d}")

    def move(self, place: Path) -> None:
        """Put what was kept among a merge's results."""
        if self.folder is not None and self.folder.is_dir():
            shutil.move(self.folder, place / STATISTICS)

    @staticmethod
    def _draft(folder: Path) -> Path:
        return folder / f"round{UNFINISHED}"


def read_rounds(folder: Path, widths: Mapping[int, tuple[int, int]]) -> list[KeptRound]:
    """Read the statistics of all rounds of a merge.

    Args:
        folder: Of the merge.
        widths: ``(d_out, d_in)`` of each edited layer.

    Raises:
        InputError: If there are none, a round is missing, or a file is damaged.
    """
    found = sorted((_number(path), path) for path in _folders(folder))
    numbers = [number for number, _ in found]
    if not found or numbers != list(range(1, len(found) + 1)):
        raise InputError(
            f"{folder}: the statistics of all rounds were wanted, found those of "
            f"{numbers or 'none'}. A run keeps them with `output.statistics = true`."
        )
    return [_read_round(path, widths) for _, path in found]


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if _number(path) > 0)


def _read_round(folder: Path, widths: Mapping[int, tuple[int, int]]) -> KeptRound:
    found = KeptRound()
    for path in sorted(folder.iterdir()):
        named = _FILE.fullmatch(path.name)
        if named is None:
            continue
        layer, party = int(named[2]), int(named[3])
        if layer not in widths:
            raise InputError(f"{path}: the run does not edit layer {layer}")
        kind = found.solved if named[1] == SOLVED else found.remembered
        kind.setdefault(layer, {})[party] = _read_file(path, widths[layer])
    return KeptRound(_in_order(found.solved), _in_order(found.remembered))


def _in_order(found: Mapping[int, ByParty]) -> dict[int, ByParty]:
    """Order layers and parties by number, as the server adds them up."""
    return {
        layer: dict(sorted(parts.items())) for layer, parts in sorted(found.items())
    }


def _read_file(path: Path, widths: tuple[int, int]) -> LayerStatistics:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            count = int((file.metadata() or {})[COUNT])
        part = _from_tensors(tensors, count)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: holds no statistics of a party ({type(error).__name__}); it was "
            "changed after the run"
        ) from None
    if (part.residuals.shape[1], part.keys.shape[1]) != widths:
        raise InputError(
            f"{path}: statistics of a layer {widths[0]} × {widths[1]} "
            "were wanted; it is of another model"
        )
    return part


def _to_tensors(part: LayerStatistics) -> dict[str, Tensor]:
    tensors = {KEYS: part.keys, RESIDUALS: part.residuals}
    if part.sums is not None:
        tensors |= {GRAM: write_triangle(part.sums.gram), CROSS: part.sums.cross}
    return {name: each.contiguous() for name, each in tensors.items()}


def _from_tensors(tensors: Mapping[str, Tensor], count: int) -> LayerStatistics:
    keys, residuals = tensors[KEYS], tensors[RESIDUALS]
    if keys.dim() != 2 or residuals.dim() != 2:
        raise ValueError("keys and residuals are rows")
    (rows, d_in), d_out = keys.shape, residuals.shape[1]
    for name, each in tensors.items():
        wanted = {
            KEYS: (rows, d_in),
            RESIDUALS: (rows, d_out),
            GRAM: (d_in * (d_in + 1) // 2,),
            CROSS: (d_out, d_in),
        }.get(name)
        if each.dtype != torch.float64 or each.shape != wanted:
            raise ValueError(f"`{name}` is {tuple(each.shape)} in {each.dtype}")
    if count < 0:
        raise ValueError(f"it counts {count} edits")
    sums = None
    if GRAM in tensors:
        sums = Sums(read_triangle(tensors[GRAM], d_in), tensors[CROSS])
    return LayerStatistics(keys, residuals, count, sums)


def _number(path: Path) -> int:
    found = _ROUND.fullmatch(path.name)
    return int(found[1]) if found else 0
