"""The report as one page that needs no network and no other file."""

import json

from server.report.data import Report
from server.report.frame import fill_frame
from server.report.plots import describe_rounds, draw_bars, draw_rounds
from server.report.tables import (
    TITLES,
    best_merges,
    caption_overview,
    columns_of,
    has_rounds,
    lay_out,
    list_refusals,
    summarise,
)

CONTENT = """\
<header>
<h1>Collaborative editing: report</h1>
<p>{{ summary }}</p>
<p class="facts">{{ facts }}</p>
</header>
{%- macro figures(caption, table) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}">\
<table{% if table.labels > 1 %} class="dense"{% endif %}>
<caption>{{ caption }}</caption>
<thead><tr>\
{% for head in table.heads %}<th scope="col">{{ head }}</th>{% endfor %}\
</tr></thead>
<tbody>
{%- for row in table.rows %}
<tr{% if row[0] in best %} class="best"{% elif row[0].startswith("(") %} \
class="unedited"{% endif %}>
{%- for cell in row %}
{%- if loop.index <= table.labels %}<th scope="row">{{ cell }}</th>
{%- else %}<td>{{ cell }}</td>{% endif %}
{%- endfor %}</tr>
{%- endfor %}
</tbody>
</table></div>
{%- endmacro %}
<section>
<h2>The merges compared</h2>
{{- figures(overview_caption, overview) }}
</section>
<section>
<h2>Score and its three parts</h2>
<img src="{{ bars }}" alt="Bars of score, rewrite, paraphrase and neighbourhood \
success for each merge; the numbers are in the table above.">
</section>
{%- if not rounds.is_empty %}
<section>
<h2>Round by round</h2>
<img src="{{ lines }}" alt="{{ lines_alt }}">
{{- figures("After each round, in per cent", rounds) }}
</section>
{%- endif %}
{%- if not requests.is_empty %}
<section>
<h2>Requests</h2>
{{- figures("In each round", requests) }}
</section>
{%- endif %}
{%- if not details.is_empty %}
<section>
<h2>Details</h2>
{{- figures("After the last round", details) }}
</section>
{%- endif %}
{%- if refusals %}
<section>
<h2>Left out</h2>
<ul>{% for line in refusals %}<li>{{ line }}</li>{% endfor %}</ul>
</section>
{%- endif %}
<section>
<h2>How to read this</h2>
<dl>
{%- for word, meaning in words %}
<dt>{{ word }}</dt><dd>{{ meaning }}</dd>
{%- endfor %}
</dl>
</section>
<section>
<h2>Settings</h2>
{%- for run in settings %}
<details><summary>{{ run.merge }}</summary><pre>{{ run.text }}</pre></details>
{%- endfor %}
</section>
"""

WORDS = (
    (
        TITLES["rewrite_success"],
        "Share of edited prompts after which the new object is more likely than the "
        "one it replaces (ES in papers).",
    ),
    (
        TITLES["paraphrase_success"],
        "The same for the edited facts in other words (PS).",
    ),
    (
        TITLES["neighborhood_success"],
        "Share of prompts about other subjects that keep their own object (NS).",
    ),
    (TITLES["score"], "The harmonic mean of the three."),
    (
        "Accuracy",
        "Share of prompts whose every token of the right answer is the likeliest one.",
    ),
    (
        TITLES["relative_difference_to_global"],
        "How far the update is from the one that editing all requests on one machine "
        "makes, relative to its size; the largest over edited weights. Up to "
        "about 1e-5 is the rounding of a model in single precision.",
    ),
    (TITLES["bytes_per_party"], "What leaves one party in the whole run."),
)


RETENTION_WORDS = (
    (
        TITLES["retention"],
        "Share of the requests of all earlier rounds whose new object the model still "
        "says after this one, token for token.",
    ),
    (
        "Earlier",
        "A metric over the requests of all earlier rounds, evaluated after this one; "
        "the others are over the round's own requests.",
    ),
)
REQUEST_WORDS = {
    "known": "Requests that were not edited because the model held them already.",
    "left_out": "Requests that were not edited because another party's had the same "
    "fact.",
    "duplicates": "Requests that were made more than once.",
    "conflicts": "Facts that were given different objects.",
    "residual_norm": "How far the hidden state was from the target before the edit, "
    "‖z − h‖; the mean over the round's requests. It is small for what the model holds "
    "already.",
    "residual_ratio": "The same relative to the hidden state, ‖z − h‖ / ‖h‖.",
}


def render_page(report: Report) -> str:
    """Write the report as one self-contained HTML page."""
    several = has_rounds(report)
    return fill_frame(
        CONTENT,
        title="Collaborative editing: report",
        summary=summarise(report),
        facts=state_facts(report),
        overview_caption=caption_overview(report),
        best=best_merges(report),
        bars=draw_bars(report),
        lines=draw_rounds(report) if several else "",
        lines_alt=describe_rounds(report),
        overview=lay_out(report, "overview"),
        rounds=lay_out(report, "rounds"),
        requests=lay_out(report, "requests"),
        details=lay_out(report, "details"),
        refusals=list_refusals(report),
        words=choose_words(report),
        settings=[
            {"merge": run.merge, "text": json.dumps(run.settings, indent=2)}
            for run in report.runs
        ],
    )


def choose_words(report: Report) -> list[tuple[str, str]]:
    """Explain what this report shows, and nothing that it does not."""
    retained = "retention" in columns_of(report, "rounds")
    shown = columns_of(report, "requests")
    words = [
        (TITLES[name], REQUEST_WORDS[name]) for name in REQUEST_WORDS if name in shown
    ]
    return [*WORDS, *(RETENTION_WORDS if retained else ()), *words]


def state_facts(report: Report) -> str:
    """Say how large the run was, as far as its settings tell."""
    run = report.runs[0]
    parties = run.settings.get("parties")
    count = parties.get("count") if isinstance(parties, dict) else None
    facts = [f"schedule {run.schedule}"]
    if count is not None:
        facts.insert(0, "1 party" if count == 1 else f"{count} parties")
    facts.insert(-1, "1 round" if run.rounds == 1 else f"{run.rounds} rounds")
    return ", ".join(facts)
