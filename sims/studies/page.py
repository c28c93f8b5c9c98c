"""The page of a study, and its numbers as files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from server.report import write_whole
from server.report_tables import TableText, headings, markdown_table, write_number
from sims.studies.study import Figure, Study, TrialResult

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6875; --line: #dfe4ea;
  --paper: #ffffff; --ground: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .8rem; }
p { max-width: 46rem; margin: .4rem 0; }
.facts { color: var(--soft); }
section { background: var(--paper); border: 1px solid var(--line);
  border-radius: .6rem; padding: 1.4rem 1.5rem; margin-top: 1.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .7rem; text-align: right; vertical-align: bottom;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { font-size: .85rem; color: var(--soft); white-space: normal; }
th:first-child { text-align: left; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font-size: .85rem; background: var(--ground);
  padding: 1rem; border-radius: .4rem; }
@media print { body { background: none; } section { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<p class="facts">{{ question }}</p>
<p>{{ finding }}</p>
</header>
{%- for figure in figures %}
<section>
<h2>{{ figure.title }}</h2>
<p class="facts">{{ figure.caption }}</p>
<img src="{{ figure.picture }}" alt="{{ figure.title }}; the numbers are in \
{{ figure.file }}.">
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
<h2>Run it again</h2>
<pre>{{ command }}</pre>
<p class="facts">It took {{ minutes }}. All numbers and settings are in study.json, \
and every run of it lies under runs.</p>
<details><summary>Settings</summary><pre>{{ settings }}</pre></details>
</section>
</main>
</body>
</html>
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
    """Write the page, the figures' numbers and the whole as JSON; gives the finding."""
    frame = study.tabulate(results)
    figures, finding = study.draw(frame), study.state(frame)
    for place, figure in enumerate(figures, start=1):
        write_whole(folder / file_of(place), figure.numbers.to_csv(index=False))
    record = {
        "study": study.name,
        "question": study.question,
        "finding": finding,
        "command": account.command,
        "seconds": account.seconds,
        "settings": account.settings,
        "trials": [describe(result, folder) for result in results],
        "rows": json.loads(frame.to_json(orient="records")),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    write_whole(folder / "study.json", text + "\n")
    write_whole(folder / "report.md", render_markdown(study, figures, finding, account))
    write_whole(folder / "report.html", render_html(study, figures, finding, account))
    return finding


def describe(result: TrialResult, folder: Path) -> dict[str, object]:
    """Say of a trial what it was and where its run lies."""
    return {
        "seed": result.seed,
        "name": result.trial.name,
        "labels": dict(result.trial.labels),
        "settings": list(result.trial.overrides),
        "folder": result.folder.relative_to(folder).as_posix(),
        "seconds": result.report.seconds,
        "judged": {name: dict(means) for name, means in result.judged.items()},
    }


def render_html(
    study: Study, figures: Sequence[Figure], finding: str, account: Account
) -> str:
    """Write the page, which needs no network and no other file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(PAGE).render(
        title=study.title,
        question=study.question,
        finding=finding,
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
        command=account.command,
        minutes=write_seconds(account.seconds),
        settings=json.dumps(account.settings, indent=2),
    )


def render_markdown(
    study: Study, figures: Sequence[Figure], finding: str, account: Account
) -> str:
    """Write the page without its pictures."""
    parts = [f"# {study.title}", study.question, finding]
    for place, figure in enumerate(figures, start=1):
        parts += [f"## {figure.title}", f"{figure.caption} Numbers: {file_of(place)}."]
        parts.append(markdown_table(lay_out(figure.table)))
    parts += ["## Run it again", f"```sh\n{account.command}\n```"]
    return "\n\n".join([*parts, f"It took {write_seconds(account.seconds)}."]) + "\n"


def file_of(place: int) -> str:
    """Name the file of a figure's numbers, counted from 1."""
    return f"figure_{place}.csv"


def lay_out(table: pd.DataFrame) -> TableText:
    """Write a table's numbers as text, a row's name first."""
    heads = ["", *headings([str(column) for column in table])]
    rows = [
        [
            name_row(label),
            *(write_number(str(key), value) for key, value in row.items()),
        ]
        for label, row in table.iterrows()
    ]
    return TableText(heads, rows, 1)


def name_row(label: object) -> str:
    """Write the name of a row, which may have several parts."""
    return ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def write_seconds(seconds: float) -> str:
    """Write a wall time as people say it."""
    whole = round(seconds)
    minutes = f"{whole // 60} min " if whole >= 60 else ""
    return f"{minutes}{whole % 60} s"
