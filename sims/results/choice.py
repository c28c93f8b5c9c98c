"""Which merge's results a folder holds, found without loading what computes."""

from pathlib import Path

from editing.base.errors import InputError
from server.output import file_name
from server.report.data import Report, RunReport, read_report

REPORT = "report.json"
DELTA = "delta.safetensors"


def choose_run(path: Path) -> tuple[Path, RunReport]:
    """Choose a merge by its own folder, or by that of a run with one merge.

    Returns:
        The folder of the report, and the merge's part of it.

    Raises:
        InputError: If there is none, or several.
    """
    above = path if (path / REPORT).is_file() else path.parent
    try:
        report = read_report(above / REPORT)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: wanted the folder of a finished run, or of one merge of a "
            f"comparison ({type(error).__name__}: no {REPORT} can be read)"
        ) from None
    return above, _choose(path, above, report)


def _choose(path: Path, above: Path, report: Report) -> RunReport:
    if path == above:
        if len(report.runs) > 1 or not (path / DELTA).is_file():
            names = ", ".join(file_name(each.merge) for each in report.runs)
            raise InputError(
                f"{path}: is a comparison; name the folder of one merge in it: {names}"
            )
        return report.runs[0]
    for each in report.runs:
        if file_name(each.merge) == path.name:
            return each
    raise InputError(f"{path}: the report in {above} knows no merge {path.name!r}")
