"""The folder of a run under way, which stays if the run is stopped."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from editing.base.errors import InputError
from editing.files.atomic import write_whole
from editing.files.lock import locked
from server.config import RunConfig
from server.monitoring.events import EVENTS
from server.output import UNFINISHED as UNFINISHED
from server.output import refuse_existing
from sims.errors import RunLostError

# Its contents during the run: results as the server writes them, its checkpoints, what
# the parties keep, the settings, and the lock of the process that is at work.
WRITTEN, CHECKPOINT, PARTIES, KEPT = "run", "checkpoint", "parties", "settings.json"
RESOLUTIONS, GROUP_KEY, LOCK = "resolutions.jsonl", "group.key", "lock"
CONNECTED = "connection.json"
"""Which run of which SuperLink writes into it, if that is not one of ours."""

FINISHED = ("report.json", "training.json")
"""What complete results have one of: of edits, or of a training."""

RESUMABLE = frozenset({CHECKPOINT, PARTIES, KEPT, GROUP_KEY, LOCK, CONNECTED})
"""What a run resumes from; all but that and `EVENTS` is made again."""


@contextmanager
def unfinished_folder(
    folder: Path, config: RunConfig, *, resume: bool
) -> Iterator[Path]:
    """Yield the folder of a running run; it is renamed once the run is complete.

    What a resumed run needs is removed only then, so that a killed run either can be
    resumed or has complete results.

    Raises:
        InputError: If it cannot be made, or holds an unfinished run already.
    """
    draft = draft_of(folder)
    if draft.exists() and not resume:
        raise InputError(
            f"An unfinished run is in {draft}: resume it (--resume {draft}), "
            "remove it, or name another folder with --output"
        )
    try:
        draft.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the output folder {folder} ({error.strerror}); name another "
            "with --output"
        ) from None
    busy = (
        f"{draft}: another process is running this; wait until it has ended, or name "
        "another folder with --output"
    )
    with locked(draft / LOCK, busy):
        try:
            refuse_existing(folder)  # who held the lock before may have finished
            clear_drafts(draft)
            write_whole(draft / KEPT, config.model_dump_json(indent=2) + "\n")
            yield draft
            draft.rename(folder)
        except RunLostError:
            raise  # its server may still write here
        except BaseException:
            clear_drafts(draft)
            if not any((draft / CHECKPOINT).glob("*.safetensors")):
                shutil.rmtree(draft, ignore_errors=True)
            raise
        remove(folder / name for name in sorted(RESUMABLE))


def draft_of(folder: Path) -> Path:
    """The folder of a run under way whose results are going to be in `folder`."""
    return folder.with_name(folder.name + UNFINISHED)


def clear_drafts(draft: Path) -> None:
    """Remove results that were half written or gathered when the run was stopped."""
    kept = RESUMABLE | {EVENTS}
    remove(path for path in draft.glob("*") if path.name not in kept)


def remove(paths: Iterable[Path]) -> None:
    """Remove files and whole folders, as far as they are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def find_unfinished(folder: Path) -> Path:
    """Find a stopped run by its own name or by that of the folder it would become.

    Raises:
        InputError: If there is none.
    """
    for place in (folder, folder.with_name(folder.name + UNFINISHED)):
        if place.name.endswith(UNFINISHED) and (place / KEPT).is_file():
            return place
    unfinished = folder.name.endswith(UNFINISHED)
    done = any((folder / name).is_file() for name in FINISHED)
    if not unfinished and done:
        raise InputError(f"--resume: the run in {folder} is finished")
    raise InputError(
        f"--resume: no unfinished run is in {folder}; it would be a folder named "
        f"`….{UNFINISHED.removeprefix('.')}` with a file {KEPT} in it"
    )


def read_kept(folder: Path) -> RunConfig:
    """Read the settings of an unfinished run.

    Raises:
        InputError: If they cannot be read.
    """
    try:
        text = (folder / KEPT).read_text(encoding="utf-8")
        return RunConfig.model_validate_json(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / KEPT}: cannot be read ({type(error).__name__}); it holds the "
            "settings of the run as it was begun"
        ) from None
