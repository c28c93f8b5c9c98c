"""The folder of a study under way: finished trials stay in it if the study stops."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editing.base.errors import InputError
from editing.files.atomic import write_whole
from editing.files.lock import locked
from server.output import refuse_existing
from sims.errors import RunFailedError
from sims.runs.unfinished import LOCK, remove
from sims.studies.running.order import command_words
from sims.studies.running.record import (
    RECORD,
    UNFINISHED,
    StudyRecord,
    read_record,
    refuse_differences,
)
from sims.studies.running.workers import interrupts_ignored

RUNS, TRIALS, REPORT = "runs", "trials", "report.json"
"""Where the runs of a study are, those of several studies, and what a run ends with."""


@contextmanager
def unfinished_study(
    folder: Path, record: StudyRecord, *, resume: bool
) -> Iterator[Path]:
    """Yield the folder of a running study; it is renamed when the study is complete.

    A study that fails or is stopped keeps its finished trials there, and logs how to
    resume it; an `InputError` or `RunFailedError` has that in its text. Without any
    finished trial, nothing is left. A folder that cannot be made, an unfinished study
    that is not to be resumed, and one that was begun with other input are an
    `InputError`.
    """
    refuse_existing(folder)
    draft = folder.with_name(folder.name + UNFINISHED)
    make_draft(draft, record.study, resume=resume)
    busy = (
        f"{draft}: another process runs this study; wait until it has ended, or name "
        "another folder with --output"
    )
    with locked(draft / LOCK, busy):
        if resume:
            begun = read_record(draft)
            refuse_differences(draft, begun, record)
            record = record.model_copy(update={"seconds": begun.seconds})
        remove_stopped_trials(draft)
        write_record(draft, record)
        try:
            yield draft
        except BaseException as error:
            with interrupts_ignored():
                explain_stop(error, draft, record)
            raise
        refuse_existing(folder)
        draft.rename(folder)
        remove([folder / RECORD, folder / LOCK])


def make_draft(draft: Path, study: str, *, resume: bool) -> None:
    """Make the folder of a new study.

    Raises:
        InputError: If it cannot be made, or holds an unfinished study.
    """
    if resume:
        return
    if (draft / RECORD).is_file():
        raise InputError(
            f"An unfinished study is in {draft}: resume it "
            f"({resume_command(study, draft)}), remove it, or name another folder with "
            "--output"
        )
    try:
        draft.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Cannot make the output folder {draft} ({error.strerror}); name another "
            "with --output"
        ) from None


def explain_stop(error: BaseException, draft: Path, record: StudyRecord) -> None:
    """Remove unfinished trials, and log which are kept and how to resume."""
    remove_stopped_trials(draft)
    kept = len(finished_trials(draft))
    if not kept:
        shutil.rmtree(draft, ignore_errors=True)
        advice = "No trial was finished, and nothing is kept."
    else:
        trials = f"{kept} of {len(set(record.trials.values()))} trials"
        command = resume_command(record.study, draft)
        advice = f"{trials} are kept in {draft}. Resume with: {command}"
    if isinstance(error, InputError | RunFailedError):
        if kept:
            raise type(error)(f"{str(error).rstrip('.')}. {advice}") from None
        return
    begin = "Stopped" if isinstance(error, KeyboardInterrupt) else "Failed"
    sys.stderr.write(f"{begin}. {advice}\n")


def resume_command(study: str, draft: Path) -> str:
    """Write the command that resumes a study."""
    return shlex.join([*command_words(study), "--resume", str(draft)])


def write_record(draft: Path, record: StudyRecord) -> None:
    """Write what the study was begun with, for how long it has run included."""
    write_whole(draft / RECORD, record.model_dump_json(indent=2) + "\n")


def finished_trials(draft: Path) -> list[Path]:
    """List the folders of finished trials; only complete runs name their folder."""
    reports = sorted(path / REPORT for path in begun_trials(draft))
    found = [each for each in reports if each.is_file()]
    return [each.parent for each in found if each.parent.suffix != UNFINISHED]


def begun_trials(draft: Path) -> list[Path]:
    """List the folders of all trials that were begun."""
    return [each for name in (RUNS, TRIALS) for each in (draft / name).glob("seed_*/*")]


def remove_stopped_trials(draft: Path) -> None:
    """Remove all that trials left which were stopped half-way."""
    finished = set(finished_trials(draft))
    remove(each for each in begun_trials(draft) if each not in finished)
