"""Where a run records its events, and who else observes them."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from editing.base.errors import InputError
from editing.files.lock import locked
from server.config import RunConfig
from server.monitoring.events import (
    EVENTS,
    Event,
    MergeStarted,
    RoundEnded,
    RunEnded,
    RunStarted,
)
from server.monitoring.mlflow_log import MlflowLog
from server.monitoring.stream import EventFile, EventStream, WarningEvents
from server.monitoring.tensorboard_log import TensorBoardLog
from server.monitoring.wandb_log import WandbLog
from server.output import UNFINISHED

SEED = re.compile(r"seed_\d+")
"""What the folder of a seed's trials is called."""


def open_stream(folder: str | None) -> EventStream:
    """Start the stream of a run, and open its file if its folder is named.

    This comes before the settings are validated, so that the file also records which of
    them is refused.

    Args:
        folder: The raw setting `output.watch`.

    Raises:
        InputError: If the folder cannot be made, or another run uses it.
    """
    stream = EventStream()
    if folder:
        place = Path(folder)
        if not place.parent.is_dir():
            raise InputError(
                f"`output.watch`: there is no folder {place.parent} on this machine, "
                "or it cannot be read; share it with the machine that started the "
                "run, or name a folder that is there"
            )
        with _naming_place(place):
            occupancy = occupy(place, "watch")
            stream.subscribe(EventFile(place / EVENTS))
            stream.subscribe(occupancy)  # it is released once the end is recorded
    return stream


def watch_run(stream: EventStream, config: RunConfig, folder: Path) -> None:
    """Record a run's events from now on, as its settings demand.

    A file that cannot be written, or a folder that another run uses, is an
    `InputError`.

    Args:
        stream: The run's, as `open_stream` opened it.
        config: The run's settings.
        folder: Where its results will be.
    """
    output = config.output
    place = Path(output.watch or f"{folder}{UNFINISHED}")
    name = name_in_logs(place)
    with _naming_place(place):
        if output.checkpoint:
            stream.subscribe(occupy(Path(output.checkpoint), "checkpoint"))
        occupancy = None if output.watch else occupy(place, "directory")
        if output.checkpoint is None:  # there is nothing to resume
            (place / EVENTS).unlink(missing_ok=True)
        if occupancy is not None:
            stream.subscribe(EventFile(place / EVENTS))
            stream.subscribe(occupancy)
            stream.subscribe(MoveToResults(place, folder))
        if output.tensorboard:
            stream.subscribe(TensorBoardLog(Path(output.tensorboard) / name))
        if output.mlflow:
            stream.subscribe(MlflowLog(Path(output.mlflow), name, place))
        if output.wandb:
            stream.subscribe(WandbLog(Path(output.wandb), name))
    WarningEvents(stream)
    stream.publish(
        RunStarted(
            run=place.name.removesuffix(UNFINISHED),
            rounds=config.run.rounds,
            parties=config.parties.count,
        )
    )


def name_in_logs(place: Path) -> str:
    """Name a run by its folder; a trial of several seeds with its seed before it."""
    name, parent = place.name.removesuffix(UNFINISHED), place.parent.name
    return f"{parent}_{name}" if SEED.fullmatch(parent) else name


@contextmanager
def _naming_place(place: Path) -> Iterator[None]:
    """Turn an error of the file system into one that names place and settings."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or place}: cannot be written ({error.strerror}); set "
            "`output.watch`, `output.checkpoint`, `output.tensorboard`, "
            "`output.mlflow` and `output.wandb` to places that are writable"
        ) from None


def occupy(place: Path, setting: str) -> "Occupancy":
    """Make a folder and lock it for one run; `setting` is the key that names it."""
    place.mkdir(parents=True, exist_ok=True)
    return Occupancy(place, setting)


class Occupancy:
    """Holds the lock of a folder until the run ends; an observer."""

    def __init__(self, place: Path, setting: str) -> None:
        """Lock the folder, where the file system has locks.

        Args:
            place: The folder.
            setting: The key that names it in `output`, for the error that
                `editing.files.lock.locked` raises if another process holds it.
        """
        self._held = ExitStack()
        busy = (
            f"{place}: another run uses this folder; wait until it has ended, or name "
            f"another `output.{setting}`"
        )
        self._held.enter_context(locked(place / ".lock", busy))

    def __call__(self, event: Event) -> None:
        """Release the folder when the run is over."""
        if isinstance(event, RunEnded):
            self._held.close()


class MoveToResults:
    """Moves the file of events to the results once they are complete; an observer.

    If the run fails, the file stays where it is if a round was completed.
    """

    def __init__(self, place: Path, folder: Path) -> None:
        """Move from `place` to `folder`."""
        self._place, self._folder, self._has_round = place, folder, False

    def __call__(self, event: Event) -> None:
        """Move or remove the file at the end."""
        match event:
            case MergeStarted(completed=number) | RoundEnded(round=number) if number:
                self._has_round = True
            case RunEnded(error=None):
                shutil.move(self._place / EVENTS, self._folder / EVENTS)
                self._remove_folder()
            case RunEnded() if not self._has_round:
                (self._place / EVENTS).unlink(missing_ok=True)
                self._remove_folder()
            case _:
                return

    def _remove_folder(self) -> None:
        with suppress(OSError):  # other files are in it
            self._place.rmdir()
