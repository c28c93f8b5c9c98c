"""The report's three files: JSON, Markdown and a page."""

from pathlib import Path

from editing.files.atomic import write_whole
from server.report.capability import write_csv
from server.report.data import Report
from server.report.markdown import render_markdown
from server.report.page import render_page


def write_report(report: Report, directory: Path) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html``.

    The capability curve, if it was measured, is in ``capability.csv``, too.
    """
    write_whole(directory / "report.json", report.model_dump_json(indent=2) + "\n")
    write_whole(directory / "report.md", render_markdown(report))
    write_whole(directory / "report.html", render_page(report))
    if table := write_csv(report):
        write_whole(directory / "capability.csv", table)
