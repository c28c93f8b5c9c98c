"""An audit as tables for a terminal or a page."""

from editing.base.foreign_text import show_foreign
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

SHOWN = 20
"""How many accepted guesses are named a test; a file has all of them."""


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
    for line in (*name_accepted(found), *describe_objects(found), *found.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def name_accepted(found: Audit) -> list[str]:
    """Name the guesses that each test accepts, the first 20 of them."""
    return [
        f"{line.observer}, {line.test}, accepted: "
        + "; ".join(show_foreign(each) for each in line.named[:SHOWN])
        + (f"; and {more} more" if (more := len(line.named) - SHOWN) > 0 else "")
        for line in found.lines
        if line.named
    ]


def describe_objects(found: Audit) -> list[str]:
    """Say how often objects of the run's own requests were named rightly."""
    return [
        "Objects of the run's own requests named rightly by what became likelier after "
        f"{prompt}: "
        f"{_percent(share)} (chance {_percent(found.chance)})"
        for prompt, share in found.objects.items()
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
