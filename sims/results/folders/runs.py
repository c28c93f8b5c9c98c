"""The runs in folders of results: which there are, and the files of each."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from editing.base.errors import InputError

CASE_NAME = re.compile(r"(?:\d+_edits-)?case_(\d+)\.json")
RUN_NAME = re.compile(r"run_(\d+)")
SEED_NAME = re.compile(r"seed_(\d+)")
"""The folder of a study's or paper's trials with one seed."""

REPORT = "report.json"
RUN_FILES = frozenset({"params.json", REPORT})
"""Files that mark the folder of a run and hold no case."""

OUR_FILES = frozenset({"study.json", "tables.json", "order.json", "trial.json"})
"""Files of a study or paper that are neither cases nor a run's."""

LEVELS = ("global_edit", "collaborative_edit")
"""Where CollabEdit puts a case: a key of the file, or a folder within the run."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A file or folder that gave nothing, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a run and the JSON files anywhere under it."""

    path: Path
    files: tuple[Path, ...]

    @property
    def number(self) -> str:
        """What sets it apart from the runs it is averaged with; empty for one alone.

        Its name, or the name of the folder of the seed that a trial was run with.
        """
        if is_trial(self.path):
            return self.path.parent.name
        return self.path.name if RUN_NAME.fullmatch(self.path.name) else ""

    @property
    def group(self) -> Path:
        """The folder of the runs that are averaged with this one.

        A trial has the place of its name next to its seed, where there is no folder.
        """
        if is_trial(self.path):
            return self.path.parents[1] / self.path.name
        return self.path.parent if self.number else self.path

    def answers_to(self, name: str) -> bool:
        """Whether it is meant by its name, or by its number alone."""
        found = RUN_NAME.fullmatch(self.number) or SEED_NAME.fullmatch(self.number)
        if found and name.isdecimal():
            return int(name) == int(found[1])
        return bool(name) and name in {self.path.name, self.number}


def find_runs(folder: Path) -> list[Run]:
    """Find the runs in or around a folder, in the order of names.

    A run is a trial below ``seed_<number>``, or a folder named ``run_<number>``, else
    one that holds ``params.json`` or ``report.json``, else one that holds case files.
    Hidden folders are drafts of runs in progress, and are skipped.

    Raises:
        InputError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name folders that hold results")
    found: dict[Path, list[Path]] = {}
    for home, file in _files_of_runs(folder.resolve()):
        found.setdefault(home, []).append(file)
    return [Run(home, tuple(files)) for home, files in found.items()]


def join_runs(found: Iterable[Iterable[Run]]) -> list[Run]:
    """Make one run of what several folders showed of it."""
    files: dict[Path, dict[Path, None]] = {}
    for run in chain.from_iterable(found):
        files.setdefault(run.path, {}).update(dict.fromkeys(run.files))
    return [Run(path, tuple(each)) for path, each in files.items()]


def _files_of_runs(root: Path) -> Iterator[tuple[Path, Path]]:
    files = [
        path
        for path in sorted(root.rglob("*.json"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and not belongs_to_study(path)
    ]
    marked = {path.parent for path in files if path.name in RUN_FILES}
    homes = {
        path.parent: _home_of(path.parent, marked)
        for path in files
        if CASE_NAME.fullmatch(path.name)
    }
    known = marked | set(homes.values())
    for path in files:
        home = homes.get(path.parent) or _home_of(path.parent, known)
        if home in known or RUN_NAME.fullmatch(home.name):
            yield home, path


def is_trial(folder: Path) -> bool:
    """Return whether a folder is that of a trial, below the one of its seed."""
    return SEED_NAME.fullmatch(folder.parent.name) is not None


def belongs_to_study(path: Path) -> bool:
    """Return whether a file is a study's own: its record, or a trial's requests."""
    return path.name in OUR_FILES or path.match("requests/seed_*/*.json")


def _home_of(folder: Path, marked: set[Path]) -> Path:
    """The run that a folder belongs to; itself, or what is around a level, if none."""
    around = (folder, *folder.parents)
    trials = [each for each in around if is_trial(each) and each in marked]
    numbered = [each for each in around if RUN_NAME.fullmatch(each.name)]
    fallback = folder.parent if folder.name in LEVELS else folder
    return next(
        iter([*trials, *numbered, *(each for each in around if each in marked)]),
        fallback,
    )


def number_of(path: Path) -> int:
    """The case number in a case file's name."""
    found = CASE_NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])
