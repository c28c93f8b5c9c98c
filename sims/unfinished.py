"""The folder of a run under way, which stays if the run is stopped."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editing.errors import InputError
from server.config import RunConfig
from server.report import write_whole

UNFINISHED = ".unfinished"
"""What the name of a run's folder ends in until all is there."""

# What lies in it meanwhile: results as the server writes them, its checkpoints, what
# the parties keep, and the settings.
WRITTEN, CHECKPOINT, PARTIES, KEPT = "run", "checkpoint", "parties", "settings.json"
RULINGS, GROUP_KEY = "rulings.jsonl", "group.key"


@contextmanager
def unfinished_folder(
    folder: Path, config: RunConfig, *, resume: bool
) -> Iterator[Path]:
    """Lend the folder of a run under way; it takes its own name once all is well.

    Raises:
        InputError: If it cannot be made, or an unfinished run lies there already.
    """
    draft = folder.with_name(folder.name + UNFINISHED)
    if draft.exists() and not resume:
        raise InputError(
            f"An unfinished run lies in {draft}: go on with it (--resume {draft}), "
            "remove it, or name another folder with --output"
        )
    try:
        draft.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the output folder {folder} ({error.strerror}); name another "
            "with --output"
        ) from None
    try:
        clear_drafts(draft)
        write_whole(draft / KEPT, config.model_dump_json(indent=2) + "\n")
        yield draft
        for name in (CHECKPOINT, PARTIES):
            shutil.rmtree(draft / name, ignore_errors=True)
        for name in (KEPT, GROUP_KEY):
            (draft / name).unlink(missing_ok=True)
        draft.rename(folder)
    except BaseException:
        clear_drafts(draft)
        if not any((draft / CHECKPOINT).glob("*.safetensors")):
            shutil.rmtree(draft, ignore_errors=True)
        raise


def clear_drafts(draft: Path) -> None:
    """Remove results that were half written when the run was stopped."""
    for place in (draft / WRITTEN, *draft.glob(f".{WRITTEN}.partial-*")):
        shutil.rmtree(place, ignore_errors=True)


def find_unfinished(folder: Path) -> Path:
    """Find a stopped run by its own name or by that of the folder it would become.

    Raises:
        InputError: If there is none.
    """
    for place in (folder, folder.with_name(folder.name + UNFINISHED)):
        if place.name.endswith(UNFINISHED) and (place / KEPT).is_file():
            return place
    raise InputError(
        f"--resume: no unfinished run lies in {folder}; it would be a folder named "
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
