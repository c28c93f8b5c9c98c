"""The report as Markdown."""

from server.report.capability import CAPABILITY_CAPTION, lay_out_capability
from server.report.data import Report
from server.report.parties import caption_parties, lay_out_parties
from server.report.tables import (
    ANSWERS_CAPTION,
    Part,
    columns_of,
    headline,
    lay_out,
    lay_out_weights,
    list_accepted,
    list_refusals,
    list_warnings,
    markdown_table,
    state_editor,
    state_masks,
    summarise,
)


def render_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    parts = [
        "# Collaborative editing: report",
        summarise(report),
        state_how(report),
        markdown_table(lay_out(report, "overview")),
        explain_numbers(report),
    ]
    answers = lay_out(report, "answers")
    if not answers.is_empty:
        parts += [
            "## Generated answers",
            f"{ANSWERS_CAPTION}.",
            markdown_table(answers),
        ]
    titles: dict[Part, str] = {
        "rounds": "Round by round",
        "requests": "Requests",
        "details": "Details",
        "diagnosis": "Diagnosis",
    }
    for part, title in titles.items():
        table = lay_out(report, part)
        parts += [] if table.is_empty else [f"## {title}", markdown_table(table)]
    capability = lay_out_capability(report)
    if not capability.is_empty:
        parts += ["## Capability", f"{CAPABILITY_CAPTION}.", markdown_table(capability)]
    parties = lay_out_parties(report)
    if parties.rows:
        parts += ["## Parties", f"{caption_parties(report)}.", markdown_table(parties)]
    weights = lay_out_weights(report)
    if weights.rows:
        parts += ["## What each party weighs", markdown_table(weights)]
    lists = {
        "Warnings": list_warnings(report),
        "Release gate": list_accepted(report),
        "Left out": list_refusals(report),
    }
    for title, lines in lists.items():
        if lines:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def state_how(report: Report) -> str:
    """Name the editor, and say whether sums were masked."""
    words = ", ".join(filter(None, [state_editor(report), state_masks(report)]))
    return f"{words[0].upper()}{words[1:]}." if words else ""


def explain_numbers(report: Report) -> str:
    """Explain the columns in a paragraph."""
    scored = "score" in headline(report)
    text = (
        "Score, successes and accuracies are per cent. The score is the harmonic mean "
        "of the three successes: on rewrites (efficacy, ES), paraphrases "
        "(generalization, PS) and neighbourhood prompts (specificity, NS)."
        if scored
        else "Accuracies are per cent. No request has a true object that differs from "
        "its new one, which score and successes need."
    )
    text += " The difference to global is relative, the largest over layers."
    if "retention" in columns_of(report, "rounds"):
        text += (
            " The retention is the share of the requests of all earlier rounds whose "
            "new object the model still answers, token for token; columns marked as "
            "earlier are over the same requests."
        )
    return text
