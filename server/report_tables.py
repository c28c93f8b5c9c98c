"""The report's tables and sentences, and the whole of it as Markdown."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from server.report import Report, RoundMetrics

SUCCESSES = ("rewrite_success", "paraphrase_success", "neighborhood_success")
TITLES = {
    "score": "Score",
    "rewrite_success": "Rewrite success",
    "paraphrase_success": "Paraphrase success",
    "neighborhood_success": "Neighbourhood success",
    "rewrite_acc": "Rewrite accuracy",
    "paraphrase_acc": "Paraphrase accuracy",
    "neighborhood_acc": "Neighbourhood accuracy",
    "rewrite_diff": "Rewrite difference",
    "paraphrase_diff": "Paraphrase difference",
    "neighborhood_diff": "Neighbourhood difference",
    "held_out_acc": "Held-out accuracy",
    "relative_difference_to_global": "Difference to global",
    "seconds": "Seconds",
    "bytes_per_party": "Sent per party",
}
UNEDITED = "(unedited)"
ABSENT = "–"
Part = Literal["overview", "details", "rounds"]


def comparison(report: Report) -> pd.DataFrame:
    """Tabulate the last round of each run, a row a merge, the unedited model first."""
    measured = [metrics_row(UNEDITED, report.unedited)] if report.unedited else []
    for run in report.runs:
        cost = run.model_dump(
            include={"relative_difference_to_global", "seconds", "bytes_per_party"}
        )
        measured.append(metrics_row(run.merge, run.metrics[-1]) | cost)
    return pd.DataFrame(measured).set_index("merge")


def rounds_table(report: Report) -> pd.DataFrame:
    """Tabulate every round of every run."""
    rows = [
        {"round": number} | metrics_row(run.merge, metrics)
        for run in report.runs
        for number, metrics in enumerate(run.metrics, start=1)
    ]
    return pd.DataFrame(rows).set_index(["merge", "round"])


def metrics_row(merge: str, metrics: RoundMetrics) -> dict[str, object]:
    """Name the numbers of one round, groups beside the rest."""
    plain = metrics.model_dump(exclude={"groups", "refusals"})
    return {"merge": merge} | plain | dict(metrics.groups)


def columns_of(report: Report, part: Part) -> list[str]:
    """Choose the columns of one of the report's tables, empty ones left out."""
    frame = comparison(report)
    costs = ["relative_difference_to_global", "seconds", "bytes_per_party"]
    overview = ["score", *SUCCESSES]
    if part == "overview":
        return [*overview, *(name for name in costs if name in frame)]
    if part == "rounds":
        return overview
    rest = [str(name) for name in frame if name not in {*overview, *costs}]
    return [name for name in rest if frame[name].notna().any()]


def headings(columns: Sequence[str]) -> list[str]:
    """Write the names of columns in full, a part of the prompts after its metric."""
    parts = [name.partition(".") for name in columns]
    plain = [metric.replace("_", " ").capitalize() for metric, _, _ in parts]
    return [
        TITLES.get(metric, otherwise)
        + (f", {group.replace('_', ' ')}" if group else "")
        for (metric, _, group), otherwise in zip(parts, plain, strict=True)
    ]


def cells(frame: pd.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    """Write a table's numbers as text, the names of rows first."""
    rows = []
    for label, row in frame.iterrows():
        names = label if isinstance(label, tuple) else (label,)
        values = [write_number(name, row[name]) for name in columns]
        rows.append([str(name) for name in names] + values)
    return rows


def write_number(name: str, value: float | None) -> str:
    """Write one number with as many digits as it deserves, and its unit."""
    if value is None or pd.isna(value):
        return ABSENT
    if name == "relative_difference_to_global":
        return f"{value:.2g}" if value == 0 or value >= 0.01 else f"{value:.1e}"
    if name == "bytes_per_party":
        return write_bytes(value)
    if name.partition(".")[0].endswith("_diff"):
        return f"{value:.3f}"
    return f"{value:.1f}"


def write_bytes(count: float) -> str:
    """Write a number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def list_refusals(report: Report) -> list[str]:
    """Say who was left out of which round, and why."""
    return [
        f"{run.merge}, round {number}: node {refusal.node}: {refusal.reason}"
        for run in report.runs
        for number, metrics in enumerate(run.metrics, start=1)
        for refusal in metrics.refusals
    ]


def best_merges(report: Report) -> list[str]:
    """Name the merges whose score, as it is written, is the highest."""
    scores = {
        run.merge: round(run.metrics[-1].score, 1)
        for run in report.runs
        if run.metrics[-1].score is not None
    }
    top = max(scores.values(), default=None)
    return [merge for merge, score in scores.items() if score == top]


def summarise(report: Report) -> str:
    """Say in a sentence or two what the runs show."""
    runs = {run.merge: run for run in report.runs}
    words, best = [], best_merges(report)
    if best:
        score = write_number("score", runs[best[0]].metrics[-1].score)
        words.append(f"The highest score is {score}, of {' and '.join(best)}.")
    pooled = runs.get("collabedit")
    gap = pooled.relative_difference_to_global if pooled else None
    if gap is not None:
        words.append(
            "The update that collabedit makes of all parties' statistics differs from "
            "the one that editing on one machine makes by "
            f"{write_number('relative_difference_to_global', gap)} of its size."
        )
    return " ".join(words)


def render_markdown(report: Report) -> str:
    """Write the report as Markdown."""
    frame = comparison(report)
    parts = ["# Collaborative editing: report", summarise(report)]
    overview = columns_of(report, "overview")
    parts.append(markdown_table(["Merge", *headings(overview)], cells(frame, overview)))
    parts.append(
        "Score, successes and accuracies are per cent. The score is the harmonic mean "
        "of the three successes. The difference to global is relative, the largest "
        "over layers."
    )
    if max(run.rounds for run in report.runs) > 1:
        names = columns_of(report, "rounds")
        rows = cells(rounds_table(report), names)
        table = markdown_table(["Merge", "Round", *headings(names)], rows)
        parts += ["## Round by round", table]
    details = columns_of(report, "details")
    if details:
        table = markdown_table(["Merge", *headings(details)], cells(frame, details))
        parts += ["## Details", table]
    refusals = list_refusals(report)
    if refusals:
        parts += ["## Left out", "\n".join(f"- {line}" for line in refusals)]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a Markdown table, names to the left and numbers to the right."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    ruler = [":--" if index == 0 else "--:" for index in range(len(heads))]
    lines = [escaped[0], ruler, *escaped[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
