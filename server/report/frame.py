"""The frame of all pages: one file, one style, one script, no network."""

import base64
import hashlib

from jinja2 import DictLoader, Environment, StrictUndefined

from editing.base.origin import Origin

# The app bundle carries Python files, so all of the frame is text in one of them.
STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6875; --line: #dfe4ea;
  --paper: #ffffff; --ground: #f5f7f9; --accent: #0072b2; --mark: #eaf4fb;
  --alarm: #b34700; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #a3afbb; --line: #35414d; --paper: #1a222b;
    --ground: #11171d; --accent: #6cbcec; --mark: #1c3343; --alarm: #f0a060; } }
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
.warning { border-left: .3rem solid var(--alarm); }
li { overflow-wrap: anywhere; }
table { border-collapse: separate; border-spacing: 0; width: 100%;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .6rem; }
caption span { display: inline-block; position: sticky; left: 0;
  max-width: min(46rem, calc(100vw - 3.5rem)); }
th, td { padding: .5rem .7rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { font-size: .85rem; color: var(--soft); border-bottom-width: 2px;
  vertical-align: bottom; }
th button { all: unset; cursor: pointer; text-decoration: underline dotted 1px;
  text-underline-offset: .3em; }
th button:hover { color: var(--ink); }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort] button { color: var(--accent); }
th[aria-sort="ascending"] button::after { content: "\\00a0↑"; }
th[aria-sort="descending"] button::after { content: "\\00a0↓"; }
th:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); }
tbody th { font-weight: 600; white-space: nowrap; }
td { white-space: nowrap; }
.words { text-align: left; }
td.words { white-space: normal; overflow-wrap: break-word; min-width: 11rem; }
.words + td.words { min-width: 5rem; }
table.dense { font-size: .85rem; }
table.dense :is(th, td) { padding: .35rem; }
table.dense thead th { font-size: .72rem; }
tr.best > :is(th, td) { background: var(--mark); }
tr.best th { color: var(--accent); }
tr.unedited > * { color: var(--soft); font-weight: 400; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
img + .scroll { margin-top: 1rem; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; max-width: 46rem; }
summary { cursor: pointer; font-weight: 600; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
pre { overflow-x: auto; font-size: .85rem; background: var(--ground);
  padding: 1rem; border-radius: .4rem; }
.command { white-space: pre-wrap; overflow-wrap: anywhere; padding: .5rem .8rem;
  border: 1px solid var(--line); margin: .6rem 0 0; background: var(--paper); }
@media (max-width: 40rem) {
  main { padding: 1.2rem .6rem 2.5rem; }
  section { padding: 1rem .8rem; }
  h1 { font-size: 1.45rem; }
  th, td { padding: .4rem .5rem; }
  table { font-size: .9rem; }
  tbody th:first-child { white-space: normal; }
  .scroll img { max-width: none; width: 40rem; } }
@media print { body { background: none; } section { break-inside: avoid; } }
"""

SORTING = """
const ABSENT = "–";
const UNITS = { "%": 1, B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };
const NUMBER =
  /^([-−+]?\\d+(?:\\.\\d+)?(?:e[-+]?\\d+)?)(?: ?(%|B|kB|MB|GB))?(?: ?[±(].*)?$/;
const words = new Intl.Collator("en", { numeric: true });

function read(text) {
  const found = NUMBER.exec(text);
  return found ? Number(found[1].replace("−", "-")) * (UNITS[found[2]] ?? 1) : null;
}

function order(rows, place, sign) {
  const entries = rows.map((row) => {
    const text = row.cells[place].textContent.trim();
    return { row, text, number: read(text), absent: text === ABSENT || text === "" };
  });
  const numbers = entries.every((each) => each.absent || each.number !== null);
  const compare = (one, other) =>
    numbers ? one.number - other.number : words.compare(one.text, other.text);
  entries.sort((one, other) =>
    one.absent || other.absent
      ? one.absent - other.absent
      : sign * compare(one, other));
  return entries.map((each) => each.row);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    if (head.textContent.trim() === "") {
      return;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.ariaSort];
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (next === null) {
        body.append(...original);
        return;
      }
      head.setAttribute("aria-sort", next ?? "ascending");
      body.append(...order([...body.rows], place, next ? -1 : 1));
    });
  });
}

for (const table of document.querySelectorAll("table")) {
  if (table.tHead && table.tBodies.length === 1 && table.tBodies[0].rows.length > 1) {
    makeSortable(table);
  }
}
"""
"""Sorts tables by a click or a key; without it every table stays as it is."""

FRAME = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
{%- block content %}{% endblock %}
</main>
<script type="module">{{ script | safe }}</script>
</body>
</html>
"""

ORIGIN = """\
{%- if origin %}
<p class="facts">{{ origin.describe() }}</p>
{%- if origin.command %}
<pre class="command" tabindex="0" aria-label="The command">{{ origin.command }}</pre>
{%- endif %}
{%- endif %}
"""
"""Of a page's header: when it was made, of which versions and by which command."""

TABLE = """\
{%- macro figures(caption, table) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}">\
<table{% if table.labels > 1 or table.heads | length > 8 %} class="dense"{% endif %}>
<caption><span>{{ caption }}</span></caption>
<thead><tr>\
{% for head in table.heads %}<th scope="col"{% if \
table.labels < loop.index <= table.labels + table.words %} class="words"{% endif %}>\
{{ head }}</th>{% endfor %}\
</tr></thead>
<tbody>
{%- for row in table.rows %}
<tr{% if best is defined and row[0] in best %} class="best"\
{% elif row[0].startswith("(") %} class="unedited"{% endif %}>
{%- for cell in row %}
{%- if loop.index <= table.labels %}<th scope="row">{{ cell }}</th>
{%- elif loop.index <= table.labels + table.words %}\
<td class="words">{{ cell }}</td>
{%- else %}<td>{{ cell }}</td>{% endif %}
{%- endfor %}</tr>
{%- endfor %}
</tbody>
</table></div>
{%- endmacro %}
"""
"""A macro that lays out a `TableText` within a box that scrolls; `best` names rows."""


def fill_frame(content: str, *, origin: Origin | None = None, **values: object) -> str:
    """Fill in a template within the frame; `title` is the page's title.

    A name that the template reads and `values` lacks is an error of jinja's. A template
    shows where the page comes from by ``{% include "origin" %}``, and a table by
    ``{% from "table" import figures with context %}{{ figures(caption, table) }}``.

    Args:
        content: The template.
        origin: Where the page comes from, if that is known.
        values: What the template reads.
    """
    page = '{% extends "frame" %}{% block content %}\n' + content + "{% endblock %}"
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=DictLoader(
            {"frame": FRAME, "origin": ORIGIN, "table": TABLE, "page": page}
        ),
    )
    return environment.get_template("page").render(
        **values,
        origin=origin,
        policy=write_policy(),
        script=SORTING,
        style=STYLE,
    )


def write_policy() -> str:
    """Return a page's policy: one style, one script, and pictures within the page.

    Digests name them, so that a browser uses nothing else, whatever text of others is
    on the page.
    """
    return (
        f"default-src 'none'; img-src data:; style-src '{digest(STYLE)}'; "
        f"script-src '{digest(SORTING)}'; base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """Return a digest as a Content-Security-Policy names what it admits."""
    found = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(found).decode()
