"""Edits made before the latest one, carried along so that each can be reverted exactly.

Folders that were edited several times hold what undoes each edit, the latest first:
``edit/``, ``edit/earlier/``, ``edit/earlier/earlier/``. Reverting the latest edit moves
the rest up.
"""

import shutil
from pathlib import Path

from editing.base.errors import InputError
from sims.deltas.record import FOLDER, RECORD, REVERSAL, EditRecord, read_record

EARLIER = "earlier"


def carry_edits(source: Path, base_as_written: str, folder: Path) -> EditRecord | None:
    """Copy what undoes the edits of an edited base into the folder of its next edit.

    Args:
        source: The base; one that is no folder of an edited model has nothing to copy.
        base_as_written: Its fingerprint in the precision that is written.
        folder: The next edit's.

    Returns:
        The record of the base's latest edit, copied or not.
    """
    record = read_record(source)
    if record is not None and record.edited == base_as_written:
        _copy(source / FOLDER, folder / FOLDER / EARLIER)
    return record


def restore_edits(source: Path, folder: Path) -> EditRecord | None:
    """Copy what undoes the earlier edits to where the latest edit has it.

    Args:
        source: A folder of a model that was edited several times.
        folder: The folder of the model without the latest edit.

    Returns:
        The record of the edit that is now the latest; None if there is none.
    """
    _copy(source / FOLDER / EARLIER, folder / FOLDER)
    return read_record(folder)


def check_order(record: EditRecord, delta: str, delta_path: Path, folder: Path) -> None:
    """Refuse a delta that is not the latest one in an edited model.

    Args:
        record: Of the latest edit.
        delta: The fingerprint of the delta.
        delta_path: The delta's file.
        folder: The edited model's.

    Raises:
        InputError: If it is an earlier one, or none of the model's.
    """
    if record.delta == delta:
        return
    place = folder / FOLDER / EARLIER
    while (place / RECORD.name).is_file():
        if _read(place).delta == delta:
            raise InputError(
                f"{delta_path} was applied to {folder} before the delta "
                f"{record.delta[:12]}…, and only the latest can be reverted exactly; "
                "revert that one first"
            )
        place /= EARLIER
    raise InputError(
        f"{delta_path} is not the delta in {folder} (fingerprint "
        f"{record.delta[:12]}…); give the one that was applied"
    )


def explain_earlier(record: EditRecord) -> str:
    """Explain in one line whether an earlier edit can still be reverted exactly.

    Args:
        record: The latest edit. Without an earlier one the text is empty.
    """
    if record.earlier is None:
        return ""
    name = f"The base holds an earlier edit ({record.earlier[:12]}…)"
    if not record.carried and record.earlier_dtype != record.dtype:
        reason = f"that one was written in {record.earlier_dtype}, this folder is not"
    elif not record.carried:
        reason = "the base was changed after it"
    elif record.reversal_bytes is None:
        reason = "this edit itself cannot be"
    else:
        return (
            f"{name}. Revert this edit first and then that one: in this order both are "
            "exact."
        )
    return (
        f"{name}, which cannot be reverted exactly after this one, because {reason}. "
        "Revert it before this edit."
    )


def _read(place: Path) -> EditRecord:
    text = (place / RECORD.name).read_text(encoding="utf-8")
    return EditRecord.model_validate_json(text)


def _copy(source: Path, target: Path) -> None:
    """Copy the known files alone: any other may hold requests."""
    if not (source / RECORD.name).is_file():
        return
    target.mkdir(parents=True)
    for name in (RECORD.name, REVERSAL.name):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    _copy(source / EARLIER, target / EARLIER)
