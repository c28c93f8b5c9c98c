"""The page of single requests, for whoever holds the cases of all parties.

A case file stays with its party; where the parties are simulated they are all of one
user, and lie in the folder of results. The page is as private as they are.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from editing.base.origin import Origin
from editing.evaluation.metrics import measure_success
from editing.files.atomic import write_private
from server.report.data import read_report
from server.report.frame import fill_frame
from server.report.tables import ABSENT, TableText, headings

NAME = "requests.html"
MOST_SHOWN = 1000
"""Requests that are shown of one merge; the case files have all."""

Case = Mapping[str, Any]
HEADS = [
    "Case",
    "Prompt",
    "New object",
    "Old object",
    "Answer",
    "Party",
    "Round",
    "Success before",
    "Success",
    "p(new) before",
    "p(new)",
    "Paraphrases",
    "Neighbours",
]
SHARES = (
    "rewrite_success",
    "paraphrase_success",
    "neighborhood_success",
    "rewrite_acc",
    "paraphrase_acc",
    "neighborhood_acc",
)

CONTENT = """\
{%- from "table" import figures with context %}
<header>
<h1>Collaborative editing: requests</h1>
<p>What became of each request, after the last round. This page holds the parties' \
requests: it is for those who may read them.</p>
{%- include "origin" %}
</header>
<section>
<h2>Means over requests</h2>
{{- figures("In per cent, ± the standard error over requests", means) }}
</section>
{%- for merge in merges %}
<section>
<h2>{{ merge.name }}</h2>
{{- figures(merge.caption, merge.table) }}
</section>
{%- endfor %}
<section>
<h2>How to read this</h2>
<dl>
<dt>Success</dt><dd>Whether the new object is likelier than the old one after the \
prompt. Before: on the unedited model, which is evaluated with the first round's \
requests.</dd>
<dt>p(new)</dt><dd>Probability of the new object after the prompt, the geometric mean \
over its tokens.</dd>
<dt>Paraphrases, neighbours</dt><dd>Share of the request's prompts of that kind with \
success; for neighbours that is the old object.</dd>
<dt>Answer</dt><dd>What the model generates after the prompt.</dd>
<dt>Standard error</dt><dd>s / √n, of the standard deviation s over n requests; a \
request of several prompts counts with its mean.</dd>
</dl>
</section>
"""


def write_case_page(
    found: Mapping[str, Mapping[int, Sequence[str]]], folder: Path, rounds: int
) -> None:
    """Write the page for its owner alone; without cases there is none.

    Args:
        found: By merge and round, the cases as lines of JSON.
        folder: Of the results.
        rounds: The number of the last round.
    """
    read = {
        merge: [json.loads(line) for line in by_round.get(rounds, ())]
        for merge, by_round in found.items()
    }
    before = {
        case["case_id"]: case
        for by_round in found.values()
        for case in map(json.loads, by_round.get(0, ()))
    }
    path = folder / "report.json"
    if not any(read.values()) or not path.is_file():
        return
    report = read_report(path)
    merges = [run.merge for run in report.runs if run.merge in read]
    ordered = {merge: read[merge] for merge in (*merges, *read)}
    write_private(folder / NAME, render_case_page(ordered, before, report.origin))


def render_case_page(
    cases: Mapping[str, Sequence[Case]],
    before: Mapping[int, Case],
    origin: Origin | None = None,
) -> str:
    """Return the page.

    Args:
        cases: By merge, after the last round.
        before: By number, on the unedited model.
        origin: Of the run.
    """
    merges = [
        {"name": merge, "caption": caption(own), "table": lay_out(own, before)}
        for merge, own in cases.items()
    ]
    return fill_frame(
        CONTENT,
        origin=origin,
        title="Collaborative editing: requests",
        means=lay_out_means(cases),
        merges=merges,
    )


def caption(cases: Sequence[Case]) -> str:
    """Say how many requests are shown."""
    if len(cases) <= MOST_SHOWN:
        return "Probabilities and shares in per cent"
    return f"The first {MOST_SHOWN} of {len(cases)} requests; the case files have all"


def lay_out(cases: Sequence[Case], before: Mapping[int, Case]) -> TableText:
    """Lay out one merge's requests, a row each, in the order of the parties."""
    rows = [write_row(case, before.get(case["case_id"])) for case in cases[:MOST_SHOWN]]
    return TableText(HEADS, rows, 1, words=4)


def write_row(case: Case, before: Case | None) -> list[str]:
    """Write one request's cells."""
    asked, post = case.get("requested_rewrite", {}), case["post"]
    earlier = before["post"] if before is not None else {}
    answers = post.get("rewrite_prompts_generated") or [ABSENT]
    return [
        str(case["case_id"]),
        asked.get("prompt", ABSENT).replace("{}", asked.get("subject", "{}")),
        asked.get("target_new", {}).get("str", ABSENT),
        asked.get("target_true", {}).get("str", ABSENT),
        str(answers[0]),
        str(case.get("party", ABSENT)),
        str(case.get("round", ABSENT)),
        write_success(earlier),
        write_success(post),
        write_share(find_probability(earlier)),
        write_share(find_probability(post)),
        write_share(measure_success(post, "paraphrase")),
        write_share(measure_success(post, "neighborhood")),
    ]


def write_success(post: Case) -> str:
    """Say whether the edited prompt has success; a dash if that is not known."""
    share = measure_success(post, "rewrite")
    return ABSENT if share is None else "yes" if share == 1 else "no"


def find_probability(post: Case) -> float | None:
    """Return the probability of the new object after the first edited prompt."""
    probs = post.get("rewrite_prompts_probs", [])
    return math.exp(-probs[0]["target_new"]) if probs else None


def write_share(share: float | None) -> str:
    """Write a share in per cent."""
    return ABSENT if share is None else f"{100 * share:.1f}"


def lay_out_means(cases: Mapping[str, Sequence[Case]]) -> TableText:
    """Lay out means over requests with their standard errors, a row a merge."""
    values = {merge: collect(own) for merge, own in cases.items()}
    names = [name for name in SHARES if any(name in each for each in values.values())]
    rows = [
        [merge, str(len(cases[merge])), *(write_mean(own.get(n, [])) for n in names)]
        for merge, own in values.items()
    ]
    return TableText(["Merge", "Requests", *headings(names)], rows, 1)


def collect(cases: Sequence[Case]) -> dict[str, list[float]]:
    """Return each share of the requests that have it."""
    found: dict[str, list[float]] = {}
    for case in cases:
        for name in SHARES:
            kind, _, measure = name.partition("_")
            if measure == "success":
                share = measure_success(case["post"], kind)
            else:
                correct = case["post"].get(f"{kind}_prompts_correct", [])
                share = mean(correct) if correct else None
            if share is not None:
                found.setdefault(name, []).append(float(share))
    return found


def write_mean(values: Sequence[float]) -> str:
    """Write a mean and its standard error in per cent; of one request, no error."""
    if not values:
        return ABSENT
    text = f"{100 * mean(values):.1f}"
    if len(values) == 1:
        return text
    return f"{text} ± {100 * stdev(values) / math.sqrt(len(values)):.1f}"
