"""The report as one page without network or other files."""

import json

from server.report.capability import (
    CAPABILITY_CAPTION,
    CAPABILITY_WORDS,
    describe_capability,
    draw_capability,
    lay_out_capability,
)
from server.report.data import Report
from server.report.frame import fill_frame
from server.report.intervals import CAPTION
from server.report.parties import WORDS as PARTY_WORDS
from server.report.parties import caption_parties, lay_out_parties
from server.report.plots import (
    describe_bars,
    describe_rounds,
    draw_bars,
    draw_rounds,
    has_intervals,
    title_bars,
)
from server.report.tables import (
    ANSWERS_CAPTION,
    best_merges,
    caption_overview,
    columns_of,
    has_rounds,
    lay_out,
    lay_out_weights,
    list_accepted,
    list_refusals,
    list_warnings,
    state_editor,
    state_masks,
    summarise,
)
from server.report.titles import TITLES

CONTENT = """\
<header>
<h1>Collaborative editing: report</h1>
<p>{{ summary }}</p>
<p class="facts">{{ facts }}</p>
{%- include "origin" %}
</header>
{%- from "table" import figures with context %}
<section>
<h2>The merges compared</h2>
{{- figures(overview_caption, overview) }}
</section>
{%- if not answers.is_empty %}
<section>
<h2>Generated answers</h2>
{{- figures(answers_caption, answers) }}
</section>
{%- endif %}
{%- if warnings %}
<section class="warning">
<h2>Warnings</h2>
<ul>{% for line in warnings %}<li>{{ line }}</li>{% endfor %}</ul>
</section>
{%- endif %}
{%- if bars %}
<section>
<h2>{{ bars_title }}</h2>
<div class="scroll"><img src="{{ bars }}" alt="{{ bars_alt }}"></div>
{%- if intervals %}<p class="facts">{{ intervals }}</p>{% endif %}
</section>
{%- endif %}
{%- if not rounds.is_empty %}
<section>
<h2>Round by round</h2>
<div class="scroll"><img src="{{ lines }}" alt="{{ lines_alt }}"></div>
{%- if intervals %}<p class="facts">Error bars are as above.</p>{% endif %}
{{- figures("After each round, in per cent", rounds) }}
</section>
{%- endif %}
{%- if not capability.is_empty %}
<section>
<h2>Capability</h2>
<div class="scroll"><img src="{{ curve }}" alt="{{ curve_alt }}"></div>
{{- figures(capability_caption, capability) }}
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
{%- if not diagnosis.is_empty %}
<section>
<h2>Diagnosis</h2>
{{- figures("Of the edited requests", diagnosis) }}
</section>
{%- endif %}
{%- if parties.rows %}
<section>
<h2>Parties</h2>
{{- figures(parties_caption, parties) }}
{%- if has_global %}
<p class="facts">Editing on one machine (global) has no parties, and no row.</p>
{%- endif %}
<p class="facts">Values of single requests stay with their parties. Where a run \
simulates the parties, requests.html next to this page shows them.</p>
</section>
{%- endif %}
{%- if weights.rows %}
<section>
<h2>What each party weighs</h2>
{{- figures("Parties of each round, in the layer with the largest leverage", weights) }}
</section>
{%- endif %}
{%- if accepted %}
<section>
<h2>Release gate</h2>
<ul>{% for line in accepted %}<li>{{ line }}</li>{% endfor %}</ul>
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
        "Efficacy: the share of edited prompts after which the new object is more "
        "likely than the one that it replaces.",
    ),
    (
        TITLES["paraphrase_success"],
        "Generalization: the same for the edited facts in other words.",
    ),
    (
        TITLES["neighborhood_success"],
        "Specificity: the share of prompts about other subjects that keep their own "
        "object.",
    ),
    (TITLES["score"], "The harmonic mean of the three."),
    (
        "Accuracy",
        "Share of prompts for which every token of the right answer is predicted.",
    ),
    (
        TITLES["relative_difference_to_global"],
        "The distance between the update and that of editing all requests on one "
        "machine, relative to its size; the largest over edited weights. What rounding "
        "alone explains depends on the run, and is stated at the top.",
    ),
    (TITLES["bytes_per_party"], "Size of all that one party sends in the run."),
)


ANSWER_WORDS = (
    (
        "Generated, exact",
        "Share of prompts that the model, given nothing but the prompt, answers with "
        "the new object and nothing else before the end of its first line or sentence; "
        "case, punctuation and articles do not count.",
    ),
    (
        "Generated, contained",
        "The same for answers that have the new object in them.",
    ),
)
RETENTION_WORDS = (
    (
        TITLES["retention"],
        "Share of the requests of all earlier rounds whose new object the model still "
        "answers after this one, token for token.",
    ),
    (
        "Earlier",
        "A metric over the requests of all earlier rounds, evaluated after this one; "
        "the others are over the round's own requests.",
    ),
)
REQUEST_WORDS = {
    "known": "Requests that were not edited because the model knows them already.",
    "left_out": "Requests that were not edited because another party has the same "
    "fact.",
    "duplicates": "Requests that were made more than once.",
    "conflicts": "Facts with more than one object.",
    "residual_norm": "Distance between the hidden state and the target before the "
    "edit, ‖z − h‖; the mean over the round's requests. It is small for what the model "
    "knows already.",
    "residual_ratio": "The same relative to the hidden state, ‖z − h‖ / ‖h‖.",
}
DIAGNOSIS_WORDS = {
    "target_loss": "Loss at the target z, −log p(new) by token. An edit can at best do "
    "what its target does.",
    "target_probability": "Probability of the new object at the target.",
    "target_stopped": "Share of targets that reach the loss at which the search stops.",
    "target_clamped": "Share of targets that end as far from the hidden state as "
    "`editing.clamp-norm-factor` allows.",
    "residual_left": "‖z − h‖ after the update, relative to that before it.",
    "update_ratio": "Size of the whole update relative to its weight; the largest over "
    "edited weights.",
}
WEIGHT_WORDS = (
    (
        "Leverage",
        "How many of the edits that a layer has room for are the party's own, "
        "tr(A⁻¹S); at most the number of its edits.",
    ),
    (
        "Norm of its part of the update",
        "The norm of what the party adds to the update, ‖BA⁻¹‖. One that is far larger "
        "than others' asks for larger changes than they do.",
    ),
)


def render_page(report: Report) -> str:
    """Return the report as one self-contained HTML page."""
    several = has_rounds(report)
    return fill_frame(
        CONTENT,
        origin=report.origin,
        title="Collaborative editing: report",
        summary=summarise(report),
        facts=state_facts(report),
        overview_caption=caption_overview(report),
        best=best_merges(report),
        bars=draw_bars(report),
        intervals=CAPTION if has_intervals(report) else "",
        bars_title=title_bars(report),
        bars_alt=describe_bars(report),
        warnings=list_warnings(report),
        diagnosis=lay_out(report, "diagnosis"),
        lines=draw_rounds(report) if several else "",
        lines_alt=describe_rounds(report),
        overview=lay_out(report, "overview"),
        answers=lay_out(report, "answers"),
        answers_caption=ANSWERS_CAPTION,
        rounds=lay_out(report, "rounds"),
        curve=draw_capability(report),
        curve_alt=describe_capability(report),
        capability=lay_out_capability(report),
        capability_caption=CAPABILITY_CAPTION,
        requests=lay_out(report, "requests"),
        details=lay_out(report, "details"),
        parties=lay_out_parties(report),
        parties_caption=caption_parties(report),
        has_global=any(run.merge == "global" for run in report.runs),
        weights=lay_out_weights(report),
        accepted=list_accepted(report),
        refusals=list_refusals(report),
        words=choose_words(report),
        settings=[
            {"merge": run.merge, "text": json.dumps(run.settings, indent=2)}
            for run in report.runs
        ],
    )


def choose_words(report: Report) -> list[tuple[str, str]]:
    """Return explanations of what this report shows, and of nothing else."""
    retained = "retention" in columns_of(report, "rounds")
    shown = columns_of(report, "requests")
    words = [
        (TITLES[name], REQUEST_WORDS[name]) for name in REQUEST_WORDS if name in shown
    ]
    diagnosed = columns_of(report, "diagnosis")
    words += [(TITLES[name], DIAGNOSIS_WORDS[name]) for name in diagnosed]
    weighed = WEIGHT_WORDS if lay_out_weights(report).rows else ()
    named = PARTY_WORDS if lay_out_parties(report).rows else ()
    answered = () if lay_out(report, "answers").is_empty else ANSWER_WORDS
    curve = () if lay_out_capability(report).is_empty else (CAPABILITY_WORDS,)
    earlier = RETENTION_WORDS if retained else ()
    return [*WORDS, *answered, *curve, *earlier, *words, *named, *weighed]


def state_facts(report: Report) -> str:
    """Return the size of the run, as far as its settings state it."""
    run = report.runs[0]
    parties = run.settings.get("parties")
    count = parties.get("count") if isinstance(parties, dict) else None
    facts = [f"schedule {run.schedule}"]
    if count is not None:
        facts.insert(0, "1 party" if count == 1 else f"{count} parties")
    facts.insert(-1, "1 round" if run.rounds == 1 else f"{run.rounds} rounds")
    return ", ".join(
        [*facts, *filter(None, [state_editor(report), state_masks(report)])]
    )
