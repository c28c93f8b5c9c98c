"""The pages of a paper: its index, and a table by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from editing.base.origin import Origin
from server.report.frame import fill_frame
from server.report.tables import SUCCESS_LEGEND
from sims.paper.tables import MeanTable, write_markdown
from sims.studies.page import write_seconds
from sims.studies.study import Figure

TABLE = """\
{%- macro draw_table(table) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ table.title }}">\
<table class="dense">
<caption><span>{{ table.note }} {{ table.explanation }}</span></caption>
<thead><tr>{% for head in table.text.heads %}<th scope="col">{{ head }}</th>\
{% endfor %}</tr></thead>
<tbody>
{%- for row in table.text.rows %}{% set at = loop.index0 %}
<tr>{% for cell in row %}{% if loop.index0 < table.text.labels %}\
<th scope="row">{{ cell }}</th>{% elif (at, loop.index0) in table.best %}\
<td><strong>{{ cell }}</strong></td>{% else %}<td>{{ cell }}</td>{% endif %}\
{% endfor %}</tr>
{%- endfor %}
</tbody>
</table></div>
{%- endmacro %}
"""
ALONE = (
    TABLE
    + """\
<section>
<h2>{{ title }}</h2>
{{ draw_table(table) }}
<p class="facts">{{ legend }}.</p>
</section>
"""
)
CONTENT = (
    TABLE
    + """\
<header>
<h1>{{ title }}</h1>
<p class="facts">{{ facts.trials }} trials, whose runs took {{ minutes }} together.</p>
<p class="facts">{{ legend }}.</p>
{%- include "origin" %}
</header>
<section>
<h2>Contents</h2>
<ul>{% for part in parts %}
<li><a href="#{{ part.name }}">{{ part.title }}</a>: {{ part.question }}</li>\
{% endfor %}
</ul>
</section>
{%- for part in parts %}
<section id="{{ part.name }}">
<h2>{{ part.title }}</h2>
<p class="facts">{{ part.question }}</p>
<p>{{ part.finding }}</p>
{%- for table in part.tables %}
<h3>{{ table.title }}</h3>
{{ draw_table(table) }}
<p class="facts">Files: {% for form in ("csv", "tex", "md", "html") %}\
<a href="tables/{{ table.name }}.{{ form }}">{{ table.name }}.{{ form }}</a> \
{% endfor %}</p>
{%- endfor %}
{%- for stem, figure in part.figures %}
<h3>Figure: {{ figure.title }}</h3>
<p class="facts">{{ figure.caption }}</p>
<div class="scroll"><img src="{{ figure.picture }}" alt="{{ figure.title }}; the \
numbers are in parts/{{ part.name }}/figure_{{ loop.index }}.csv."></div>
<p class="facts">Files: <a href="figures/{{ stem }}.svg">{{ stem }}.svg</a> \
<a href="figures/{{ stem }}.pdf">{{ stem }}.pdf</a> \
<a href="parts/{{ part.name }}/figure_{{ loop.index }}.csv">all numbers</a></p>
{%- endfor %}
<p class="facts"><a href="parts/{{ part.name }}/report.html">The part's own page</a>, \
<a href="scenarios/{{ part.name }}.toml">its scenario</a></p>
</section>
{%- endfor %}
<section>
<h2>How it was made</h2>
<p class="facts">The command at the top makes it again. Every trial is in the folder \
trials: its report, scenario.toml, which repeats it, and trial.json with its digest \
and versions.</p>
<details><summary>Versions</summary><dl>{% for name, own in facts.versions.items() %}\
<dt>{{ name }}</dt><dd>{{ own }}</dd>{% endfor %}</dl></details>
</section>
"""
)


@dataclass(frozen=True, slots=True)
class PartText:
    """What a part shows.

    Attributes:
        name: Names its files.
        title: Heads it.
        question: What it asks.
        finding: The answer in numbers.
        tables: Means over seeds.
        figures: Each with the name of its files.
    """

    name: str
    title: str
    question: str
    finding: str
    tables: Sequence[MeanTable]
    figures: Sequence[tuple[str, Figure]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the head of a paper says.

    Attributes:
        title: Heads it.
        origin: When it was written, and what makes it again.
        seconds: Wall times of all trials' runs together.
        versions: Of our code, and of what it computes with.
        trials: How many trials it shows.
    """

    title: str
    origin: Origin
    seconds: float
    versions: Mapping[str, str]
    trials: int


def render_index(facts: Facts, parts: Sequence[PartText]) -> str:
    """Return the page of everything; it shows tables and figures without a network."""
    return fill_frame(
        CONTENT,
        origin=facts.origin,
        title=facts.title,
        facts=facts,
        parts=parts,
        minutes=write_seconds(facts.seconds),
        legend=SUCCESS_LEGEND,
    )


def render_table(table: MeanTable) -> str:
    """Return a page of one table."""
    return fill_frame(ALONE, title=table.title, table=table, legend=SUCCESS_LEGEND)


def render_markdown(facts: Facts, parts: Sequence[PartText]) -> str:
    """Return all tables and findings as Markdown."""
    lines = [f"# {facts.title}", *tables_in_markdown(parts, "##")]
    lines += ["## Run it again", f"```sh\n{facts.origin.command}\n```"]
    lines.append(f"The runs took {write_seconds(facts.seconds)} together.")
    return "\n\n".join(lines) + "\n"


def render_included(facts: Facts, parts: Sequence[PartText]) -> str:
    """Return the tables as a section of another document has them."""
    opening = (
        f"`{facts.origin.command}` made these tables on "
        f"{facts.origin.date.partition(' ')[0]}, of {facts.trials} trials whose runs "
        f"took {write_seconds(facts.seconds)} together."
    )
    return "\n\n".join([opening, *tables_in_markdown(parts, "###")]) + "\n"


def tables_in_markdown(parts: Sequence[PartText], head: str) -> list[str]:
    """Return each part's question, tables and finding, under headings of a level."""
    lines = []
    for part in parts:
        lines += [f"{head} {part.title}", part.question]
        for table in part.tables:
            lines.append(write_markdown(table))
            lines.append(f"{table.title}. {table.note} {table.explanation}")
        lines.append(part.finding)
    return lines
