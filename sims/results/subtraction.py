"""A party's own statistics taken back from secure sums, in which it is not known apart.

The sum of a layer less what the party added to it is the sum of all others. Files are
found by the digest of the sum that they were added to, whatever they are called.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editing.algebra.statistics import (
    ROUNDING,
    LayerStatistics,
    NormBounds,
    StatisticsError,
    check_norms,
)
from editing.algebra.statistics_files import (
    LAYER,
    PARTY,
    SUM,
    load_statistics,
    read_labels,
)
from editing.base.errors import InputError
from server.kept_statistics import (
    EVERYBODY,
    REMEMBERED,
    SOLVED,
    ByParty,
    KeptRound,
    KeptSum,
)

Widths = Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """What a party hands over.

    Attributes:
        place: A file, or a folder with files at any depth.
        party: Its number.
        files: By the digest of a secure sum, and layer.
    """

    place: Path
    party: int
    files: Mapping[tuple[str, str], Path]

    @classmethod
    def find(cls, place: Path, party: int) -> "OwnFiles":
        """Find the files of a party.

        Raises:
            InputError: If there are none.
        """
        found, others = dict[tuple[str, str], Path](), set[str]()
        for path in _list(place):
            labels = read_labels(path)
            if labels.get(PARTY) == str(party):
                found[labels.get(SUM, ""), labels.get(LAYER, "")] = path
            elif PARTY in labels:
                others.add(labels[PARTY])
        if not found:
            seen = f"those of party {', '.join(sorted(others))}" if others else "none"
            raise InputError(
                f"{place}: wanted the statistics of party {party}, found {seen}. Its "
                "node keeps them in its private folder, under `statistics`, if "
                "`keep-statistics = true`"
            )
        return cls(place, party, found)

    def file_of(self, asked: KeptSum, number: int, layer: int) -> Path:
        """Return the file that was added to a sum.

        Raises:
            InputError: If it is not there, or all files are of other sums.
        """
        path = self.files.get((asked.digest, str(layer)))
        if path is not None:
            return path
        ours = any(digest == asked.digest for digest, _ in self.files)
        why = "another layer" if ours else "another round, attempt or run"
        raise InputError(
            f"{self.place}: holds nothing that party {self.party} added to the sum of "
            f"round {number}, layer {layer} ({asked.digest[:12]}…): its files are of "
            f"{why}. Hand over the whole folder `statistics` of this run"
        )


def take_back(
    rounds: Sequence[KeptRound], own: OwnFiles, widths: Widths
) -> list[KeptRound]:
    """Subtract what a party added to the sums of all rounds.

    Files that are missing, or cannot have been in a sum, are an `InputError`.

    Args:
        rounds: The sums.
        own: The party's files.
        widths: ``(d_out, d_in)`` of each edited layer.
    """
    left = []
    for number, kept in enumerate(rounds, 1):
        found = KeptRound()
        for (kind, layer), asked in kept.sums.items():
            parts = (kept.solved if kind == SOLVED else kept.remembered)[layer]
            rest = parts[EVERYBODY]
            if own.party in asked.parties:
                file = own.file_of(asked, number, layer)
                mine = load_statistics(file, widths[layer])
                rest = subtract(rest, mine, f"{file}: round {number}, layer {layer}")
            stays = rest.count > 0 or kind == REMEMBERED
            place = found.solved if kind == SOLVED else found.remembered
            place[layer] = ByParty({EVERYBODY: rest}) if stays else {}
        left.append(found)
    return left


def subtract(
    whole: LayerStatistics, own: LayerStatistics, name: str
) -> LayerStatistics:
    """Return the sum of all others, whose rows are not known.

    Args:
        whole: The sum of all.
        own: What one of them added.
        name: What is subtracted, for the message.

    Raises:
        InputError: If what is left is no statistics of others, beyond rounding.
    """
    gram, edits = whole.gram, whole.count - own.count
    size = ROUNDING * gram.norm()
    rest = LayerStatistics.of_sums(gram - own.gram, whole.cross - own.cross, edits)
    try:
        if edits < 0 or (edits == 0 and rest.gram.norm() > size):
            raise StatisticsError(
                f"It is of {own.count} edits, and the sum of {whole.count}."
            )
        if edits > 0:
            check_norms(rest, NormBounds())
    except StatisticsError as error:
        raise InputError(
            f"{name}: this was not added to the sum, for what is left cannot be the "
            f"statistics of the other parties. {error}"
        ) from None
    return rest


def _list(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(place.rglob("*.safetensors"))
    elif place.is_file():
        yield place
