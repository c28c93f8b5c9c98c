"""Checkpoints: the state after the last completed round, from which a run resumes.

Each merge has one file: updates and the upper halves of remembered grams, which are
symmetric, as float64 tensors, and metrics as JSON in its metadata. It is written to a
temporary file, flushed and renamed, so that a run killed at any moment, or a power cut,
leaves the last completed round or the one before it.
"""

import glob
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path

import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.algebra.factors import Factors
from editing.algebra.second_moments import (
    read_triangle,
    triangle_width,
    write_triangle,
)
from editing.base.errors import InputError
from editing.base.settings import Settings
from editing.files.atomic import PRIVATE_FILE, make_private, partial_file
from server.output import file_name
from server.report.data import PartyRecord, RoundMetrics
from strategies.conflicts.policies import Entry
from strategies.rounds.state import RoundState

DELTA, GRAM, LEFT, RIGHT, KEPT = "delta.", "gram.", "left.", "right.", "kept."
RECORD = "record"

UNREADABLE = (OSError, SafetensorError, KeyError, ValueError)
"""What reading a file that is no checkpoint raises."""


class Measured(Settings):
    """The metrics of a merge so far.

    Attributes:
        rounds: Metrics of each round.
        before: Of the model before any edit, if it was evaluated.
        seconds: Wall time.
        sent: Bytes of statistics by party.
        rounding: By weight, the square of the norm that rounding may have moved its
            update by; None where it is not known.
        parties: What is known of each party.
    """

    rounds: tuple[RoundMetrics, ...] = ()
    before: RoundMetrics | None = None
    seconds: float = 0.0
    sent: Mapping[int, int] = {}
    rounding: Mapping[str, float | None] = {}
    parties: tuple[PartyRecord, ...] = ()


class Record(Settings):
    """The part of a checkpoint that is no tensor."""

    number: int
    measured: Measured
    history: tuple[tuple[int, int, int, str, str], ...]
    settings: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class MergeProgress:
    """The progress of a merge: its state and its metrics."""

    state: RoundState = field(default_factory=lambda: RoundState(0, {}, {}))
    measured: Measured = field(default_factory=Measured)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The folder of a run's checkpoints; nothing is kept if there is none.

    Attributes:
        folder: The folder; None if nothing is kept.
        settings: All that made the run; a checkpoint of another run is refused.
    """

    folder: Path | None
    settings: Mapping[str, object]

    def keep(self, merge: str, progress: MergeProgress) -> None:
        """Replace a merge's checkpoint with its last completed round."""
        if self.folder is None:
            return
        make_private(self.folder, close=False)
        state = progress.state
        tensors = {f"{DELTA}{name}": each for name, each in state.delta.items()}
        for layer, gram in state.grams.items():
            tensors[f"{GRAM}{layer}"] = write_triangle(gram)
        for layer, kept in state.kept.items():
            tensors |= {f"{KEPT}{layer}.{name}": each for name, each in kept.items()}
        for name, factors in state.factors.items():
            tensors[LEFT + name], tensors[RIGHT + name] = factors.left, factors.right
        record = json.dumps(
            {
                "number": state.number,
                "measured": progress.measured.model_dump(mode="json"),
                "history": [astuple(each) for each in state.history],
                "settings": self.settings,
            }
        )
        file = self._file(self.folder, merge)
        with partial_file(file, PRIVATE_FILE) as partial:
            save_file(
                {name: each.contiguous() for name, each in tensors.items()},
                partial,
                {RECORD: record},
            )

    def find(self, merge: str) -> MergeProgress:
        """What is kept of a merge; of one that has not begun, nothing.

        A draft that a killed process left is removed: the run has the folder to itself.

        Raises:
            InputError: If the file is broken, or of a run with other settings.
        """
        if self.folder is None:
            return MergeProgress()
        file = self._file(self.folder, merge)
        for draft in self.folder.glob(f".{glob.escape(file.name)}.*partial"):
            draft.unlink(missing_ok=True)
        if not file.exists():
            return MergeProgress()
        try:
            record, tensors = read_file(file)
            state = rebuild(record, tensors)
        except UNREADABLE as error:
            raise InputError(
                f"{file}: is no checkpoint of a run ({type(error).__name__}); remove "
                "it to run its merge from the start"
            ) from None
        found = differences(record.settings, self.settings)
        different = [name for name in found if not may_change(name)]
        if different:
            raise InputError(
                f"{file}: was written by a run with another {', '.join(different)}; "
                "give that run's settings, or name another folder"
            )
        return MergeProgress(state, record.measured)

    def remove(self, merges: Iterable[str]) -> None:
        """Keep nothing of these merges any more; their results are whole."""
        if self.folder is None:
            return
        for merge in merges:
            self._file(self.folder, merge).unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, merge: str) -> Path:
        return folder / f"{file_name(merge)}.safetensors"


def read_file(file: Path) -> tuple[Record, dict[str, Tensor]]:
    """Read both parts of a checkpoint."""
    with safe_open(file, framework="pt") as opened:
        record = Record.model_validate_json((opened.metadata() or {})[RECORD])
        return record, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def rebuild(record: Record, tensors: Mapping[str, Tensor]) -> RoundState:
    """Sort a checkpoint's tensors into what the next round depends on.

    What is not as `Checkpoints.keep` writes it is a `ValueError` or a `KeyError`.
    """
    for name, each in tensors.items():
        if each.dtype not in {torch.float64, torch.float32}:
            raise ValueError(f"`{name}` holds {each.dtype}")
        wanted = (1,) if name.startswith(GRAM) else (2,)
        if each.dim() not in ((1, 2) if name.startswith(KEPT) else wanted):
            raise ValueError(f"`{name}` is {tuple(each.shape)}")
    delta = _of_kind(DELTA, tensors)
    grams = {
        int(layer): read_triangle(half, triangle_width(half))
        for layer, half in _of_kind(GRAM, tensors).items()
    }
    left, right = _of_kind(LEFT, tensors), _of_kind(RIGHT, tensors)
    factors = {name: Factors(left[name], right[name]) for name in left}
    history = tuple(Entry(*each) for each in record.history)
    kept: dict[int, dict[str, Tensor]] = {}
    for place, each in _of_kind(KEPT, tensors).items():
        layer, _, name = place.partition(".")
        kept.setdefault(int(layer), {})[name] = each
    return RoundState(record.number, delta, grams, history, factors, kept)


def may_change(name: str) -> bool:
    """Return whether a resumed run may have another setting of this dotted name.

    So a round that the gate stopped can be repeated.
    """
    return name == "parties.without" or name.partition(".")[0] == "gate"


def _of_kind(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(kind): each
        for name, each in tensors.items()
        if name.startswith(kind)
    }


def differences(kept: Mapping[str, object], given: Mapping[str, object]) -> list[str]:
    """Name the settings in which two runs differ, by their dotted keys."""
    same = json.loads(json.dumps(given))
    found: list[str] = []
    for name in sorted(kept.keys() | same.keys()):
        mine, theirs = kept.get(name), same.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            found += [f"{name}.{each}" for each in differences(mine, theirs)]
        elif mine != theirs:
            found.append(name)
    return found
