"""One table over the runs in folders of results, for ``python -m sims summarize``."""

from collections.abc import Sequence
from pathlib import Path

from editing.base.errors import InputError
from editing.files.atomic import write_whole
from server.output import refuse_existing
from sims.console import open_console
from sims.results.averages import summarize_runs
from sims.results.folders.runs import Fault, Run, find_runs, join_runs
from sims.results.summary_tables import FORMS, check_form, draw


def summarize(
    folders: Sequence[Path],
    runs: str | None = None,
    first: int | None = None,
    outputs: Sequence[Path] = (),
) -> None:
    """Show the table over the runs in folders, and write it to files.

    Args:
        folders: Folders of results, of runs or of parts of runs.
        runs: Names or numbers of the runs to take, with commas; all if None.
        first: How many cases of each run to take, by case number; all if None.
        outputs: Files to write; the suffix selects the format.
    """
    for path in outputs:
        check_form(path)
        refuse_existing(path)
    found = {folder: find_runs(folder) for folder in folders}
    empty = [Fault(each, "no results found") for each in folders if not found[each]]
    chosen = choose_runs(join_runs(found.values()), runs)
    summary = summarize_runs(chosen, first, empty)
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, FORMS[path.suffix](summary))
    draw(summary, open_console())


def choose_runs(found: Sequence[Run], names: str | None = None) -> list[Run]:
    """Take the runs that are named.

    Raises:
        InputError: If there is no run, or none of a name.
    """
    if not found:
        raise InputError(
            "No results found: looked for case_<id>.json, <n>_edits-case_<id>.json and "
            "report.json in the folders given and in all below; name a folder that "
            "holds runs"
        )
    if names is None:
        return list(found)
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if not any(run.answers_to(name) for run in found):
            known = ", ".join(sorted({run.path.name for run in found}))
            raise InputError(f"--runs: there is no run {name!r}; there are {known}")
    return [run for run in found if any(map(run.answers_to, wanted))]
