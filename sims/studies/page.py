"""The page of a study, and its numbers as files."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from editing.base.origin import Origin, find_origin
from editing.files.atomic import write_whole
from editing.files.json_text import dump_json
from server.report.frame import fill_frame
from server.report.tables import (
    SUCCESS_LEGEND,
    TableText,
    headings,
    markdown_table,
    write_number,
)
from sims.studies.answers import check_alike, draw_answers
from sims.studies.study import Figure, Study, TrialResult
from sims.tables import plain_cell

CONTENT = """\
<header>
<h1>{{ title }}</h1>
<p class="facts">{{ question }}</p>
<p>{{ finding }}</p>
{%- if legend %}<p class="facts">{{ legend }}.</p>{% endif %}
{%- if spread %}<p class="facts">{{ spread }}</p>{% endif %}
{%- include "origin" %}
</header>
{%- for figure in figures %}
<section>
<h2>{{ figure.title }}</h2>
<p class="facts">{{ figure.caption }}</p>
<div class="scroll"><img src="{{ figure.picture }}" \
alt="{{ figure.title }}; the numbers are in {{ figure.file }}."></div>
<div class="scroll" tabindex="0" role="region" aria-label="{{ figure.title }}"><table>
<thead><tr>{% for head in figure.text.heads %}<th scope="col">{{ head }}</th>\
{% endfor %}</tr></thead>
<tbody>
{%- for row in figure.text.rows %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>\
{% endfor %}</tr>
{%- endfor %}
</tbody>
</table></div>
</section>
{%- endfor %}
<section>
<h2>How it was run</h2>
<p class="facts">The command at the top runs it again. It took {{ minutes }}. All \
numbers and settings are in study.json, and every run is in the folder runs.</p>
<details><summary>Settings</summary><pre>{{ settings }}</pre></details>
</section>
"""


@dataclass(frozen=True, slots=True)
class Account:
    """How a study was run.

    Attributes:
        command: Runs it again.
        seconds: Wall time of all trials.
        settings: The scenario's, which each trial changes a little.
    """

    command: str
    seconds: float
    settings: Mapping[str, object]


def write_page(
    study: Study, results: Sequence[TrialResult], account: Account, folder: Path
) -> str:
    """Write the page, the figures' numbers and a JSON record; return the finding."""
    check_alike(results)
    origin = find_origin(account.command)
    frame = study.tabulate(results)
    figures, finding = study.draw(frame), study.state(frame)
    # A hostile party says of its own requests what it likes.
    figures += draw_answers([each for each in results if not each.trial.attack])
    for place, figure in enumerate(figures, start=1):
        write_whole(folder / file_of(place), write_numbers(figure.numbers))
    record = {
        "study": study.name,
        "question": study.question,
        "finding": finding,
        "command": account.command,
        "date": origin.date,
        "versions": origin.versions,
        "seconds": account.seconds,
        "settings": account.settings,
        "definitions": {
            name: own
            for result in results
            for name, own in result.report.define_metrics().items()
        },
        "trials": [describe(result, folder) for result in results],
        "rows": json.loads(frame.to_json(orient="records")),
    }
    text = dump_json(record, 2)
    write_whole(folder / "study.json", text + "\n")
    write_whole(folder / "report.md", render_markdown(study, figures, finding, account))
    spread = explain_spread({result.seed for result in results})
    page = render_html(study, figures, finding, account, origin, spread)
    write_whole(folder / "report.html", page)
    return finding


def describe(result: TrialResult, folder: Path) -> dict[str, object]:
    """Return what a trial was and where its run is."""
    return {
        "seed": result.seed,
        "name": result.trial.name,
        "labels": dict(result.trial.labels),
        "settings": list(result.trial.overrides),
        "folder": Path(os.path.relpath(result.folder, folder)).as_posix(),
        "seconds": result.report.seconds,
        "evaluated": {name: dict(means) for name, means in result.evaluated.items()},
    }


def render_html(
    study: Study,
    figures: Sequence[Figure],
    finding: str,
    account: Account,
    origin: Origin,
    spread: str = "",
) -> str:
    """Return the page, which needs no network and no other file."""
    return fill_frame(
        CONTENT,
        origin=origin,
        title=study.title,
        question=study.question,
        finding=finding,
        legend=explain_successes(figures),
        spread=spread,
        figures=[
            {
                "title": figure.title,
                "caption": figure.caption,
                "picture": figure.picture,
                "file": file_of(place),
                "text": lay_out(figure.table),
            }
            for place, figure in enumerate(figures, start=1)
        ],
        minutes=write_seconds(account.seconds),
        settings=json.dumps(account.settings, indent=2),
    )


def render_markdown(
    study: Study, figures: Sequence[Figure], finding: str, account: Account
) -> str:
    """Return the page as Markdown, without its pictures."""
    legend = explain_successes(figures)
    parts = [f"# {study.title}", study.question, finding]
    parts += [f"{legend}."] if legend else []
    for place, figure in enumerate(figures, start=1):
        parts += [f"## {figure.title}", f"{figure.caption} Numbers: {file_of(place)}."]
        parts.append(markdown_table(lay_out(figure.table)))
    parts += ["## Run it again", f"```sh\n{account.command}\n```"]
    return "\n\n".join([*parts, f"It took {write_seconds(account.seconds)}."]) + "\n"


def explain_spread(seeds: Collection[int]) -> str:
    """Say what error bars are; nothing for one seed, which has none."""
    if len(seeds) < 2:
        return ""
    return (
        f"Lines and bars are means over {len(seeds)} seeds, faint lines and dots are "
        "single seeds, and error bars ± one sample standard deviation over seeds."
    )


def explain_successes(figures: Sequence[Figure]) -> str:
    """Return what ES, PS and NS mean, if a table or caption shows a success."""
    shown = [word for each in figures for word in (each.caption, *map(str, each.table))]
    return SUCCESS_LEGEND if any("uccess" in word for word in shown) else ""


def write_numbers(frame: pd.DataFrame) -> str:
    """Write a table as CSV, in which no text is a formula."""
    plain = frame.copy()
    for name in frame.select_dtypes(exclude="number").columns:
        plain[name] = frame[name].map(plain_cell)
    plain.columns = pd.Index([plain_cell(name) for name in frame.columns])
    return str(plain.to_csv(index=False))


def file_of(place: int) -> str:
    """Return the name of the file of a figure's numbers, counted from 1."""
    return f"figure_{place}.csv"


def lay_out(table: pd.DataFrame) -> TableText:
    """Return a table's numbers as text, a row's name first."""
    heads = ["", *headings([str(column) for column in table])]
    rows = [
        [
            name_row(label),
            *(write_cell(str(key), value) for key, value in row.items()),
        ]
        for label, row in table.iterrows()
    ]
    return TableText(heads, rows, 1)


def write_cell(name: str, value: float | str | None) -> str:
    """Return a number in figures; words stay as they are."""
    return value if isinstance(value, str) else write_number(name, value)


def name_row(label: object) -> str:
    """Return the name of a row, which may have several parts."""
    return ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def write_seconds(seconds: float) -> str:
    """Return a wall time in minutes and seconds."""
    whole = round(seconds)
    minutes = f"{whole // 60} min " if whole >= 60 else ""
    return f"{minutes}{whole % 60} s"
