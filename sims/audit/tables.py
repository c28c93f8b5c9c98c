"""An audit as tables for a terminal or a page."""

from server.report.tables import TableText
from sims.audit.audit import Audit, Line
from sims.console import open_console
from sims.tables import fit_tables

HEADS = [
    "Observer",
    "Test",
    "Guesses",
    "Right",
    "Accepted",
    "Recall",
    "False alarms",
    "AUC",
]


def lay_out(found: Audit) -> TableText:
    """Lay the tests out, one a row."""
    return TableText(HEADS, [cells(each) for each in found.lines], labels=2)


def cells(line: Line) -> list[str]:
    """Return the cells of one test."""
    return [
        line.observer,
        line.test,
        str(line.guesses),
        "–" if line.right is None else str(line.right),
        "–" if line.accepted is None else str(line.accepted),
        _percent(line.recall),
        _percent(line.false_alarms),
        "–" if line.auc is None else f"{line.auc:.3f}",
    ]


def show_audit(found: Audit) -> None:
    """Print an audit."""
    console = open_console()
    d_out, d_in = found.widths
    console.print(
        f"{found.edits} edits; layer {found.layer}, {d_out} × {d_in}", highlight=False
    )
    for table in fit_tables(lay_out(found), console.width):
        console.print(table)
    for line in (*describe_objects(found), *found.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def describe_objects(found: Audit) -> list[str]:
    """Say how often objects were named rightly."""
    return [
        f"Objects named rightly by what became likelier after {prompt}: "
        f"{_percent(share)} (chance {_percent(found.chance)})"
        for prompt, share in found.objects.items()
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
