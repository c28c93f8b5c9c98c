"""The record of a study that is not finished, and what a resumed one must match.

Importing this loads neither torch nor pandas: the command line reads it first.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from editing.base.errors import InputError
from editing.base.settings import Settings
from sims.studies.running.order import Order, command_words

UNFINISHED = ".unfinished"
"""What the name of a study's folder ends with until the study is finished."""

RECORD, FINISHED, TABLES = "order.json", "study.json", "tables.json"
"""What records an unfinished study, and what a finished one and a paper write."""

NAMED_DIFFERENCES = 5
"""The number of differences that one message names."""


class StudyRecord(Settings):
    """What a study was begun with, and for how long it has run.

    Attributes:
        study: The study's name.
        scenario: As `Order.scenario`.
        overrides: As `Order.overrides`.
        seeds: As `Order.seeds`.
        engine: As `Order.engine`.
        options: As `Order.options`.
        settings: The scenario with the overrides, by table and key.
        trials: A digest of each trial's requests and settings, by seed and name.
        seconds: Wall time of all trials so far.
    """

    study: str
    scenario: Path | None = None
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    engine: str
    options: tuple[str, ...] = ()
    settings: dict[str, JsonValue]
    trials: dict[str, str]
    seconds: float = 0.0

    def order(self, jobs: int) -> Order:
        """Give the order again, with another number of trials at once."""
        return Order(
            self.scenario,
            self.overrides,
            self.seeds,
            self.engine,
            jobs,
            self.options,
        )


def find_unfinished_study(folder: Path) -> Path:
    """Find a stopped study by its folder's name, with or without `UNFINISHED`.

    Raises:
        InputError: If there is none.
    """
    for place in (folder, folder.with_name(folder.name + UNFINISHED)):
        if place.name.endswith(UNFINISHED) and (place / RECORD).is_file():
            return place
    if any((folder / name).is_file() for name in (FINISHED, TABLES)):
        raise InputError(f"--resume: the study in {folder} is finished")
    raise InputError(
        f"--resume: no unfinished study is in {folder}; it would be a folder named "
        f"`…{UNFINISHED}` with a file {RECORD} in it"
    )


def read_record(folder: Path) -> StudyRecord:
    """Read what a stopped study was begun with.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
        return StudyRecord.model_validate_json(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / RECORD}: cannot be read ({type(error).__name__}); it records "
            "what the study was begun with"
        ) from None


def refuse_other_study(folder: Path, recorded: StudyRecord, study: str) -> None:
    """Refuse to resume a study under the name of another.

    Raises:
        InputError: If the names differ.
    """
    if recorded.study != study:
        raise InputError(
            f"--resume: {folder} holds the study `{recorded.study}` and not `{study}`; "
            f"resume it with `{' '.join(command_words(recorded.study)[3:])}`"
        )


def refuse_differences(folder: Path, begun: StudyRecord, now: StudyRecord) -> None:
    """Refuse to mix trials of two different studies.

    Raises:
        InputError: Naming what differs.
    """
    found = list(find_differences(begun, now))
    if not found:
        return
    named = "; ".join(found[:NAMED_DIFFERENCES])
    more = len(found) - NAMED_DIFFERENCES
    raise InputError(
        f"--resume: {folder} was begun with other input: {named}"
        f"{f' and {more} more' if more > 0 else ''}. Give what it was begun with, or "
        "nothing but --resume; or start again in another folder (--output)"
    )


def find_differences(begun: StudyRecord, now: StudyRecord) -> Iterator[str]:
    """Yield each difference between two records in words, by its name.

    Trials are compared only where all that they are made from is the same: then the
    files of requests have changed.
    """
    found = []
    if begun.seeds != now.seeds:
        found.append(f"`--seeds` {_list(begun.seeds)} (now {_list(now.seeds)})")
    if begun.options != now.options:
        mine, theirs = (" ".join(each.options) or "none" for each in (begun, now))
        found.append(f"options {mine} (now {theirs})")
    before, after = (dict(list_settings(each.settings)) for each in (begun, now))
    found += [
        f"`{key}` {before.get(key, 'unset')} (now {after.get(key, 'unset')})"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    yield from found
    if not found:
        names = sorted(begun.trials.keys() | now.trials.keys())
        yield from (
            f"the requests of the trial {name}"
            for name in names
            if begun.trials.get(name) != now.trials.get(name)
        )


def _list(seeds: tuple[int, ...]) -> str:
    return ",".join(map(str, seeds))


def list_settings(
    tables: Mapping[str, object], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Yield each setting of nested tables: its dotted key, and its value."""
    for key, value in tables.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, Mapping):
            yield from list_settings(value, f"{name}.")
        else:
            yield name, value
