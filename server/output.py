"""The folders that results are written to."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from editing.base.errors import InputError
from editing.editors.choice import MEMIT
from editing.files.lock import locked
from server.config import RunConfig

UNFINISHED = ".unfinished"
"""The ending of the name of a run's folder until the run is over."""


@contextmanager
def create_output_folder(path: Path) -> Iterator[Path]:
    """Yield a draft folder that is renamed to `path` when the block succeeds.

    A block that fails or is interrupted leaves nothing. While it runs, `path` is
    locked: another process is refused at once and not when its work is done.

    Raises:
        InputError: If there is something at `path` already, or it cannot be made.
    """
    refuse_existing(path)
    draft = path.with_name(f".{path.name}.partial-{uuid4().hex[:8]}")
    lock = path.with_name(f".{path.name}.lock")
    busy = (
        f"Another process is writing to the output folder {path}; wait until it has "
        "ended, or name another with --output"
    )
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the output folder {path} ({error.strerror}); name another "
            "with --output"
        ) from None
    try:
        with locked(lock, busy):
            yield draft
            refuse_existing(path)
            draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


_NUMBERED = re.compile(r"\.?run_(\d+)(?:\.unfinished|\.lock|\.partial-\w+)?")


def next_folder(name: str) -> Path:
    """Return the next free folder under ``results`` for a merge or a comparison."""
    parent = Path("results") / re.sub(r"[^\w.-]", ".", name)
    taken = [
        int(found[1])
        for path in parent.glob("*run_*")
        if (found := _NUMBERED.fullmatch(path.name))
    ]
    return (parent / f"run_{max(taken, default=-1) + 1:03d}").absolute()


def choose_folder(config: RunConfig) -> Path:
    """The folder that is named, or the next free one for what is run."""
    if config.output.directory is not None:
        return Path(config.output.directory).absolute()
    name = "compare" if config.run.compare else config.merge.name
    editor = config.editor.name
    return next_folder(name if editor == MEMIT else f"{name}-{editor}")


def refuse_existing(path: Path) -> None:
    """Refuse to overwrite earlier results.

    Raises:
        InputError: If there is something at `path`.
    """
    if path.exists():
        raise InputError(
            f"The output folder {path} exists and is never overwritten; name another "
            "with --output, or move it away"
        )


def file_name(merge: str) -> str:
    """Return the name of a merge as a file may have it."""
    return "".join(c if c.isalnum() or c in "-_." else "." for c in merge)
