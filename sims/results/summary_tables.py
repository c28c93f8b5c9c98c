"""A summary as text for a terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from editing.base.errors import InputError
from editing.evaluation.metrics import ANSWERED, BENCHMARKS, GENERATED, KINDS
from server.report.frame import fill_frame
from server.report.tables import (
    ABSENT,
    SUCCESS_LEGEND,
    SUCCESSES,
    TableText,
    headings,
    markdown_table,
    write_number,
)
from sims.latex import escape, write_latex
from sims.results.averages import Summary, SummaryRow
from sims.results.folders.runs import Fault
from sims.tables import fit_tables, plain_cell

MAX_FAULTS = 10
WIDE = 10_000  # columns; no table of a file is split

EXPLANATION = (
    "Means over cases and then over runs, shares in per cent. After ± is the "
    "standard deviation: over runs where several were averaged, else over the cases "
    "of the one run. The score is the harmonic mean of the three successes. "
    f"{SUCCESS_LEGEND}."
)
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Score and successes": ("score", *SUCCESSES),
    "Accuracies": tuple(f"{kind}_acc" for kind in KINDS),
    "Differences of probability": tuple(f"{kind}_diff" for kind in KINDS),
    "Paraphrase success by the prompt's direction": (
        "paraphrase_success.same_direction",
        "paraphrase_success.other_direction",
    ),
    "Prompts whose true object is the new one": (
        "attribute_success",
        "attribute_acc",
        "attribute_diff",
    ),
    "Questions, by token": (
        *(f"{kind}_token_acc" for kind in KINDS),
        "locality_acc",
        "locality_unchanged",
        "portability_acc",
    ),
    "Generated answers": ANSWERED,
    "Benchmarks' own questions": BENCHMARKS,
    "Generated text": GENERATED,
}
"""The tables for a terminal, which is too narrow for all columns at once."""


PAGE = """\
<section>
<h1>{{ title }}</h1>
<div class="scroll" tabindex="0" role="region" aria-label="{{ title }}">\
<table class="dense">
<caption><span>{{ explanation }}</span></caption>
<thead><tr>{% for head in text.heads %}<th scope="col">{{ head }}</th>\
{% endfor %}</tr></thead>
<tbody>
{%- for row in text.rows %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>\
{% endfor %}</tr>
{%- endfor %}
</tbody>
</table></div>
{%- if faults %}
<p>{{ faults[0] }}</p>
<ul>{% for line in faults[1:] %}<li>{{ line }}</li>{% endfor %}</ul>
{%- endif %}
</section>
"""


def write_text(summary: Summary) -> str:
    """Return the tables as a wide terminal shows them."""
    console = Console(file=io.StringIO(), width=WIDE, color_system=None)
    draw(summary, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def write_markdown(summary: Summary) -> str:
    """Return one table of all columns, and a list of what was not read."""
    names = list_columns(summary)
    parts = ["# Summary", markdown_table(_lay_out(summary, names)), EXPLANATION]
    opening, *lines = list_faults(summary.faults) or [""]
    parts += [opening, "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_tex(summary: Summary) -> str:
    """Return the tables with booktabs; comments say what was not read."""
    parts = [f"% {escape(line)}\n" for line in list_faults(summary.faults)]
    for title, columns in SECTIONS.items():
        if names := _present(summary, columns):
            table = _lay_out(summary, names, short=True)
            parts.append(
                write_latex(table, f"summary {title}", f"{title}. {EXPLANATION}")
            )
    return "".join(parts)


def write_html(summary: Summary) -> str:
    """Return a page of one table of all columns, and of what was not read."""
    return fill_frame(
        PAGE,
        title="Summary",
        text=_lay_out(summary, list_columns(summary)),
        explanation=EXPLANATION,
        faults=list_faults(summary.faults),
    )


def write_csv(summary: Summary) -> str:
    """Return means and deviations in full; what was not read follows after ``#``."""
    names = list_columns(summary)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [column for name in names for column in (name, f"{name}.deviation")]
    writer.writerow(["results", "runs", "cases", "deviation_over", *columns])
    for row in summary.rows:
        pairs = [(row.means.get(name), row.deviations.get(name)) for name in names]
        numbers = [number for pair in pairs for number in pair]
        writer.writerow(
            [plain_cell(row.label), row.runs, row.cases, row.over, *numbers]
        )
    # Quoted where it holds a comma, after which another cell would begin.
    writer.writerows([f"# {line}"] for line in list_faults(summary.faults))
    return file.getvalue()


FORMS: Mapping[str, Callable[[Summary], str]] = {
    ".csv": write_csv,
    ".html": write_html,
    ".md": write_markdown,
    ".tex": write_tex,
    ".txt": write_text,
}


def check_form(path: Path) -> None:
    """Refuse a file whose ending names no form.

    Raises:
        InputError: Naming the endings there are.
    """
    if path.suffix not in FORMS:
        raise InputError(
            f"--output {path}: the ending names the form, one of {', '.join(FORMS)}"
        )


def draw(summary: Summary, console: Console) -> None:
    """Print the tables, what ± means, and what was not read."""
    for title, columns in SECTIONS.items():
        names = _present(summary, columns)
        if not names:
            continue
        for table in _section(title, names, summary, console.width):
            console.print(table)
    for line in (EXPLANATION, *list_faults(summary.faults)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def list_faults(faults: Sequence[Fault]) -> list[str]:
    """Return how much was not read, and what and why for the first of it."""
    if not faults:
        return []
    count = len(faults)
    opening = (
        "1 file or folder was not read:"
        if count == 1
        else f"{count} files or folders were not read:"
    )
    lines = [
        " ".join(f"{shorten(fault.path)}: {fault.reason}".split())
        for fault in faults[:MAX_FAULTS]
    ]
    more = [f"and {count - MAX_FAULTS} more"] if count > MAX_FAULTS else []
    return [opening, *lines, *more]


def shorten(path: Path) -> Path:
    """Return a path relative to the current folder, if it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def list_columns(summary: Summary) -> list[str]:
    """Return the columns of all tables that hold a number."""
    return [name for names in SECTIONS.values() for name in _present(summary, names)]


def _lay_out(
    summary: Summary, names: Sequence[str], *, short: bool = False
) -> TableText:
    """Lay out one table."""
    heads = ["Results", "Cases", "± over", *headings(names, short=short)]
    return TableText(heads, [_cells(row, names) for row in summary.rows], 1)


def _section(
    title: str, names: Sequence[str], summary: Summary, width: int
) -> list[Table]:
    text = _lay_out(summary, names, short=True)
    return fit_tables(text, width, title)


def _present(summary: Summary, names: Sequence[str]) -> list[str]:
    """Return the columns that hold a number, then those of other definitions."""
    found = dict.fromkeys(name for row in summary.rows for name in row.means)
    listed = {name for section in SECTIONS.values() for name in section}
    return [
        each
        for name in names
        for each in (name, *sorted(other for other in found if other not in listed))
        if each in found and (each == name or each.startswith(f"{name}."))
    ]


def _cells(row: SummaryRow, names: Sequence[str]) -> list[str]:
    return [row.label, str(row.cases), row.over, *(_cell(row, name) for name in names)]


def _cell(row: SummaryRow, name: str) -> str:
    if name not in row.means:
        return ABSENT
    number = write_number(name, row.means[name])
    if name not in row.deviations:
        return number
    return f"{number} ± {write_number(name, row.deviations[name])}"
