"""The parties' statistics of a run, kept so that a party can be removed later.

A merge has a folder, a round of it a folder, and each party and layer a file: the rows
that the server decoded, or the sums of dense ones. Under secure sums the server has the
sum alone, and each layer a file of it, with the digest of the sum and who is in it.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from editing.algebra.statistics import LayerStatistics
from editing.algebra.statistics_files import (
    PARTIES,
    SUM,
    load_statistics,
    read_labels,
    save_statistics,
)
from editing.base.errors import InputError
from editing.files.atomic import make_private
from server.output import file_name
from strategies.wire.messages import Phase

STATISTICS = "statistics"
"""The folder's name, next to a checkpoint and among the results."""

COVARIANCE = "covariance.safetensors"
"""A covariance of the parties' own texts, next to a run's report."""

EVERYBODY = -1
"""In the place of a party's id: the sum of all, of whom none is known apart."""

SOLVED, REMEMBERED = "solved", "remembered"
UNFINISHED = ".unfinished"

_ROUND = re.compile(r"round_(\d+)")
_FILE = re.compile(
    rf"({SOLVED}|{REMEMBERED})\.layer_(\d+)\.(?:party_(\d+)|pooled)\.safetensors"
)

ByParty = dict[int, LayerStatistics]
"""By a party's id, or under `EVERYBODY` alone."""


@dataclass(frozen=True, slots=True)
class KeptSum:
    """Which secure sum pooled statistics are.

    Attributes:
        digest: Of all that its masks were bound to.
        parties: The numbers of those in it.
    """

    digest: str
    parties: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeptRound:
    """The statistics of one round, by layer and party's id.

    Attributes:
        solved: What the round's update was solved from.
        remembered: Keys read again on the edited model, if those are remembered.
        sums: By `SOLVED` or `REMEMBERED` and layer, which secure sum it is; empty if
            the parties are apart.
    """

    solved: dict[int, ByParty] = field(default_factory=dict)
    remembered: dict[int, ByParty] = field(default_factory=dict)
    sums: dict[tuple[str, int], KeptSum] = field(default_factory=dict)

    @property
    def parties(self) -> set[int]:
        """Who took part."""
        apart = {party for parts in self.solved.values() for party in parts}
        together = {party for each in self.sums.values() for party in each.parties}
        return (apart - {EVERYBODY}) | together


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
        name = f"{_kind(phase)}.layer_{layer}.party_{party}.safetensors"
        save_statistics(part, self._draft(self.folder) / name)

    def keep_sum(
        self,
        phase: Phase,
        layer: int,
        part: LayerStatistics,
        digest: str,
        parties: Sequence[int],
    ) -> None:
        """Write what all parties sent for one layer under masks."""
        if self.folder is None:
            return
        name = f"{_kind(phase)}.layer_{layer}.pooled.safetensors"
        labels = {SUM: digest, PARTIES: " ".join(map(str, parties))}
        save_statistics(part, self._draft(self.folder) / name, labels)

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
        layer, party = int(named[2]), int(named[3] or EVERYBODY)
        if layer not in widths:
            raise InputError(f"{path}: the run does not edit layer {layer}")
        kind = found.solved if named[1] == SOLVED else found.remembered
        kind.setdefault(layer, {})[party] = load_statistics(path, widths[layer])
        if party == EVERYBODY:
            found.sums[named[1], layer] = _read_sum(path)
    return KeptRound(_in_order(found.solved), _in_order(found.remembered), found.sums)


def _read_sum(path: Path) -> KeptSum:
    labels = read_labels(path)
    try:
        parties = tuple(int(each) for each in labels[PARTIES].split())
        return KeptSum(labels[SUM], parties)
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: does not say which secure sum it is; it was changed after the run"
        ) from None


def _kind(phase: Phase) -> str:
    return REMEMBERED if phase is Phase.MEMORY else SOLVED


def _in_order(found: Mapping[int, ByParty]) -> dict[int, ByParty]:
    """Order layers and parties by number, as the server adds them up."""
    return {
        layer: dict(sorted(parts.items())) for layer, parts in sorted(found.items())
    }


def _number(path: Path) -> int:
    found = _ROUND.fullmatch(path.name)
    return int(found[1]) if found else 0
