"""The files by which a run is watched, and where they lie."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from editing.base.errors import InputError
from editing.files.lock import locked
from server.config import RunConfig
from server.monitoring.logs import EventLog
from server.monitoring.metrics_log import EXCHANGES, METRICS, ExchangeLog, MetricsLog
from server.monitoring.progress import (
    Event,
    MergeStart,
    Observer,
    Progress,
    RoundEnd,
    RunEnd,
)
from server.monitoring.status import STATUS, RunStatus, StatusFile, now_utc
from server.monitoring.tensorboard_log import TensorBoardLog

UNFINISHED = ".unfinished"
"""What the name of a run's folder ends in until all is there."""

WATCHED = frozenset({STATUS, METRICS, EXCHANGES})
"""What is written while a run goes on, and stays."""

LOG = "COLLABEDIT_LOG"
"""The variable that names a log file where no setting does."""


def watch_run(progress: Progress, config: RunConfig, folder: Path) -> None:
    """Have a run watched as its settings say, from now on.

    Args:
        progress: Of the run.
        config: Its settings.
        folder: Where its results will be.

    Raises:
        InputError: If a file cannot be written, or another run is at work there.
    """
    place = Path(config.output.watch or f"{folder}{UNFINISHED}")
    try:
        if config.output.checkpoint:
            progress.watch(occupy(Path(config.output.checkpoint), "checkpoint"))
        progress.watch(occupy(place, "directory"))
        if config.output.checkpoint is None:  # nothing is gone on from
            for name in WATCHED:
                (place / name).unlink(missing_ok=True)
        for observer in make_observers(config, place):
            progress.watch(observer)
    except OSError as error:
        raise InputError(
            f"{error.filename or place}: cannot be written ({error.strerror}); set "
            "`output.watch`, `output.checkpoint`, `output.log` and "
            "`output.tensorboard` to places where files may be made"
        ) from None
    if config.output.watch is None:
        progress.watch(Settling(place, folder))


def make_observers(config: RunConfig, place: Path) -> Iterator[Observer]:
    """Open the files that the settings name, one after the other."""
    output, name = config.output, place.name.removesuffix(UNFINISHED)
    yield StatusFile(place / STATUS, begin_status(config, name))
    if output.metrics:
        yield MetricsLog(place / METRICS)
        yield ExchangeLog(place / EXCHANGES)
    if output.tensorboard:
        yield TensorBoardLog(Path(output.tensorboard) / name)
    if log := output.log or os.environ.get(LOG):
        yield EventLog(Path(log), name)


def begin_status(config: RunConfig, name: str) -> RunStatus:
    """A run that has just begun."""
    now = now_utc()
    return RunStatus(
        run=name,
        rounds=config.run.rounds,
        expected=config.parties.count,
        started=now,
        updated=now,
    )


def occupy(place: Path, setting: str) -> "Occupancy":
    """Make a folder, and have it for one run alone; `setting` is what names it."""
    place.mkdir(parents=True, exist_ok=True)
    return Occupancy(place, setting)


class Occupancy:
    """Keeps a second run from writing to the same folder."""

    def __init__(self, place: Path, setting: str) -> None:
        """Lock the folder, where the file system has locks.

        Args:
            place: The folder.
            setting: The key that names it in `output`, for the error that
                `editing.files.lock.locked` raises if another process holds it.
        """
        self._held = ExitStack()
        busy = (
            f"{place}: another run is at work here; wait until it has ended, or name "
            f"another `output.{setting}`"
        )
        self._held.enter_context(locked(place / ".lock", busy))

    def __call__(self, event: Event) -> None:
        """Release the folder when the run is over."""
        if isinstance(event, RunEnd):
            self._held.close()


class Settling:
    """Moves what was written about a run to its results, once they are whole.

    Of a run that fails it stays where it is if there was a whole round.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        """Move from `place` to `folder`."""
        self._place, self._folder, self._has_round = place, folder, False

    def __call__(self, event: Event) -> None:
        """Move the files when the run has ended well; an observer."""
        match event:
            case MergeStart(finished=number) | RoundEnd(round=number) if number > 0:
                self._has_round = True
            case RunEnd(error=None):
                for path in self._written():
                    shutil.move(path, self._folder / path.name)
                self._leave()
            case RunEnd() if not self._has_round:
                for path in self._written():
                    path.unlink()
                self._leave()
            case _:
                return

    def _written(self) -> list[Path]:
        files = (self._place / name for name in sorted(WATCHED))
        return [path for path in files if path.is_file()]

    def _leave(self) -> None:
        with suppress(OSError):  # something else lies there
            self._place.rmdir()
