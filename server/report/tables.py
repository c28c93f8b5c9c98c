"""The report's tables and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from editing.evaluation.metrics import ANSWERED, BENCHMARK_ANSWERED, BENCHMARKS
from server.report.data import Report, RoundMetrics, RunReport
from server.report.titles import SHORT_TITLES, TITLES

SUCCESSES = ("rewrite_success", "paraphrase_success", "neighborhood_success")
OVERVIEW = ("score", *SUCCESSES)
QUESTION_ACCURACIES = ("locality_acc", "portability_acc")
TOKEN_ACCURACIES = (
    "rewrite_token_acc",
    "paraphrase_token_acc",
    "neighborhood_token_acc",
)
PROMPT_ACCURACIES = ("rewrite_acc", "paraphrase_acc", "neighborhood_acc")
COSTS = ("relative_difference_to_global", "seconds", "bytes_per_party")
EARLIER = ("retention", *(f"{name}.earlier" for name in OVERVIEW))
EVALUATED = ("evaluated", "evaluated.earlier")
COUNTS = ("known", "left_out", "duplicates", "conflicts")
RESIDUALS = ("residual_norm", "residual_ratio")
ANSWERS = (
    *(
        f"{kind}_{measure}"
        for kind in ("rewrite", "paraphrase")
        for measure in ("token_acc", "acc", "generated_exact", "generated_contains")
    ),
    *BENCHMARKS,
)
"""What a model answers when it is helped, and when it is not."""

SHARES = ("target_probability", "target_stopped", "target_clamped")
"""Metrics between 0 and 1 that are shown in per cent."""

PLAIN_NUMBERS = ("residual_ratio", "target_loss", "residual_left")
DIAGNOSIS = ("target_loss", *SHARES, "residual_left", "update_ratio")
SUCCESS_LEGEND = (
    "ES, PS, NS: success on rewrites (efficacy), paraphrases (generalization) and "
    "neighbourhood prompts (specificity)"
)
NESTED = (
    "groups",
    "counts",
    "refusals",
    "retained",
    "by_round",
    "all_edits",
    "weights",
    "gate",
    "capability",
)
"""Fields of a round that are no number."""

UNEDITED = "(unedited)"
ABSENT = "–"
ANSWERS_CAPTION = (
    "All edits after the last round, in per cent: accuracies are teacher-forced, "
    "generated answers are given the prompt alone"
)
Part = Literal["overview", "answers", "details", "rounds", "requests", "diagnosis"]


@dataclass(frozen=True, slots=True)
class TableText:
    """The text of a table.

    Attributes:
        heads: The headings, those of the rows' labels first.
        rows: The cells.
        labels: How many cells of a row are labels.
        words: How many of those that follow are text, not numbers.
    """

    heads: list[str]
    rows: list[list[str]]
    labels: int
    words: int = 0

    @property
    def is_empty(self) -> bool:
        """Return whether it has labels alone."""
        return len(self.heads) == self.labels


def lay_out(report: Report, part: Part, *, short: bool = False) -> TableText:
    """Lay out one of the report's tables; it is empty if there is nothing to show.

    Args:
        report: The results.
        part: Which table.
        short: Whether headings are short, for a terminal.
    """
    if part == "answers":
        return lay_out_answers(report, short=short)
    by_round = part in {"rounds", "requests", "diagnosis"}
    names = columns_of(report, part)
    labels = ["Merge", "Round"] if by_round else ["Merge"]
    frame = rounds_table(report) if by_round else comparison(report)
    heads = [*labels, *headings(names, short=short)]
    return TableText(heads, cells(frame, names), len(labels))


def lay_out_answers(report: Report, *, short: bool = False) -> TableText:
    """Lay out generated answers next to teacher-forced ones, over all edits.

    It is empty where no answer was generated.
    """
    frame = pd.DataFrame(
        [{"merge": run.merge, **run.metrics[-1].all_edits} for run in report.runs]
    ).set_index("merge")
    names = known(frame, ["evaluated", *ANSWERS])
    heads = ["Merge", *headings(names, short=short)]
    return TableText(heads, cells(frame, names), 1)


def comparison(report: Report) -> pd.DataFrame:
    """Tabulate the last round of each run, a row a merge, the unedited model first."""
    measured = [metrics_row(UNEDITED, report.unedited)] if report.unedited else []
    for run in report.runs:
        costs = run.model_dump(include=set(COSTS))
        measured.append(metrics_row(run.merge, run.metrics[-1]) | costs)
    return pd.DataFrame(measured).set_index("merge")


def rounds_table(report: Report) -> pd.DataFrame:
    """Tabulate every round of every run."""
    rows = [
        {"round": number, "update_ratio": largest_ratio(run, number)}
        | metrics_row(run.merge, metrics)
        for run in report.runs
        for number, metrics in enumerate(run.metrics, start=1)
    ]
    return pd.DataFrame(rows).set_index(["merge", "round"])


def largest_ratio(run: RunReport, number: int) -> float | None:
    """Return the run's largest ``‖Δ‖/‖W‖``, known after its last round."""
    is_last = number == len(run.metrics)
    return max(run.update_ratios.values(), default=None) if is_last else None


def metrics_row(merge: str, metrics: RoundMetrics) -> dict[str, object]:
    """Return all numbers of one round by name, groups and earlier requests included."""
    plain = metrics.model_dump(exclude={*NESTED})
    retained = metrics.retained or RoundMetrics()
    earlier = {f"{name}.earlier": getattr(retained, name) for name in OVERVIEW}
    own = {"merge": merge} | plain | dict(metrics.groups)
    held = {"retention": retained.rewrite_acc, "evaluated.earlier": retained.evaluated}
    return own | held | earlier


def headline(report: Report) -> list[str]:
    """Return the metrics by which runs are compared first.

    Score and successes, or, where no request has a true object unlike its new one to
    measure them against (zsRE, parts of KnowEdit), the accuracies that were measured:
    by token, or of whole objects where none was measured by token.
    """
    frame = comparison(report)
    if known(frame, OVERVIEW):
        return [*OVERVIEW]
    own = known(frame, TOKEN_ACCURACIES) or known(frame, PROMPT_ACCURACIES)
    return [*own, *known(frame, QUESTION_ACCURACIES)] or [*OVERVIEW]


def columns_of(report: Report, part: Part) -> list[str]:
    """Return the columns of one of the report's tables that hold a number."""
    if part == "overview":
        retention = known(comparison(report), ["retention"])
        return [*headline(report), *retention, *COSTS]
    if part == "rounds":
        more = known(rounds_table(report), [*EARLIER, "held_out_acc", "budget"])
        return [*headline(report), *more] if has_rounds(report) else []
    if part == "requests":
        return request_columns(report)
    if part == "diagnosis":
        return known(rounds_table(report), DIAGNOSIS)
    frame = comparison(report)
    shown = {*OVERVIEW, *headline(report), *COSTS, *EARLIER}
    elsewhere = {*shown, "requests", *COUNTS, *RESIDUALS, *EVALUATED, *DIAGNOSIS}
    elsewhere |= {*ANSWERED, *BENCHMARK_ANSWERED}
    return known(frame, [str(name) for name in frame if name not in elsewhere])


def request_columns(report: Report) -> list[str]:
    """Return the columns of what was edited; none for one round that edited all."""
    frame = rounds_table(report)
    counts = [name for name in COUNTS if frame[name].any()]
    if not counts and not has_rounds(report):
        return []
    evaluated = EVALUATED if has_rounds(report) else ()
    return known(frame, ["requests", *counts, *evaluated, *RESIDUALS])


def known(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the columns that hold a number."""
    return [name for name in columns if name in frame and frame[name].notna().any()]


def caption_overview(report: Report) -> str:
    """Return the caption of the overview."""
    if "score" not in headline(report):
        return "After the last round; accuracies in per cent"
    if not has_rounds(report):
        return "After the last round; successes and score in per cent"
    return "After the last round, in per cent; score and successes of its own requests"


def headings(columns: Sequence[str], *, short: bool = False) -> list[str]:
    """Return the headings of columns, a part of the prompts after its metric."""
    titles = TITLES | SHORT_TITLES if short else TITLES
    parts = [name.partition(".") for name in columns]
    words = [metric.replace("_", " ") for metric, _, _ in parts]
    plain = [each[:1].upper() + each[1:] for each in words]
    return [
        titles.get(metric, otherwise)
        + (f", {group.replace('_', ' ')}" if group else "")
        for (metric, _, group), otherwise in zip(parts, plain, strict=True)
    ]


def cells(frame: pd.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    """Return a table's numbers as text, the labels of rows first."""
    rows = []
    for label, row in frame.iterrows():
        names = label if isinstance(label, tuple) else (label,)
        values = [write_number(name, row[name]) for name in columns]
        rows.append([str(name) for name in names] + values)
    return rows


def write_number(name: str, value: float | None) -> str:
    """Return one number with as many digits as it deserves, and its unit."""
    if value is None or pd.isna(value):
        return ABSENT
    if name.startswith("relative_difference"):
        return f"{value:.2g}" if value == 0 or value >= 0.01 else f"{value:.1e}"
    if name == "bytes_per_party":
        return write_bytes(value)
    if name in {"requests", *COUNTS, *EVALUATED}:
        return f"{value:.0f}"
    if name in SHARES:
        return f"{100 * value:.1f} %"
    if name == "update_ratio":
        return f"{value:.3g}"
    if name.partition(".")[0].endswith("_diff") or name in PLAIN_NUMBERS:
        return f"{value:.3f}"
    return f"{value:.1f}"


def has_rounds(report: Report) -> bool:
    """Return whether there is more than one round."""
    return max(run.rounds for run in report.runs) > 1


def write_bytes(count: float) -> str:
    """Return a number of bytes in a suitable unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def lay_out_weights(report: Report) -> TableText:
    """Lay out what each party weighs in each round; it has no row if nothing is known.

    The largest leverages of a round come first.
    """
    rows = [
        [
            run.merge,
            str(number),
            each.name,
            str(each.layer),
            f"{each.leverage:.3g}",
            f"{each.share:.3g}",
        ]
        for run in report.runs
        for number, metrics in enumerate(run.metrics, start=1)
        for each in sorted(metrics.weights, key=lambda weight: -weight.leverage)
    ]
    part = "Norm of its part of the update"
    heads = ["Merge", "Round", "Party", "Layer", "Leverage", part]
    return TableText(heads, rows, 3)


def list_refusals(report: Report) -> list[str]:
    """Return who was left out of which round, and why."""
    return [
        f"{run.merge}, round {number}: {refusal.label}: {refusal.reason}"
        for run in report.runs
        for number, metrics in enumerate(run.metrics, start=1)
        for refusal in metrics.refusals
    ]


def list_accepted(report: Report) -> list[str]:
    """Return what the release gate measured of each round that it accepted."""
    return [
        f"{run.merge}, round {number} accepted: {metrics.gate}"
        for run in report.runs
        for number, metrics in enumerate(run.metrics, start=1)
        if metrics.gate
    ]


def state_editor(report: Report) -> str:
    """Name the editor; nothing if the settings do not."""
    editor = report.runs[0].settings.get("editor")
    return f"editor {editor['name']}" if isinstance(editor, dict) else ""


def state_masks(report: Report) -> str:
    """Say whether sums were masked; nothing if the settings do not."""
    privacy = report.runs[0].settings.get("privacy")
    masked = privacy.get("secure_sum") if isinstance(privacy, dict) else None
    if masked is None:
        return ""
    return f"sums {'' if masked else 'not '}masked (privacy.secure-sum)"


def list_warnings(report: Report) -> list[str]:
    """Return the warnings of all merges, one that several share only once."""
    merges: dict[str, list[str]] = {}
    for run in report.runs:
        for warning in run.warnings:
            merges.setdefault(warning, []).append(run.merge)
    return [f"{', '.join(names)}: {text}" for text, names in merges.items()]


def best_merges(report: Report) -> list[str]:
    """Return the merges with the highest score, as it is written."""
    scores = {
        run.merge: round(run.metrics[-1].score, 1)
        for run in report.runs
        if run.metrics[-1].score is not None
    }
    top = max(scores.values(), default=None)
    return [merge for merge, score in scores.items() if score == top]


def summarise(report: Report) -> str:
    """Return the results in a sentence or two."""
    runs = {run.merge: run for run in report.runs}
    words, best = [], best_merges(report)
    if best:
        score = write_number("score", runs[best[0]].metrics[-1].score)
        words.append(f"The highest score is {score}, of {' and '.join(best)}.")
    pooled = runs.get("collabedit")
    gap = pooled.relative_difference_to_global if pooled else None
    if gap is not None:
        words.append(
            "The update that collabedit computes from all parties' statistics differs "
            "from that of editing all requests on one machine by "
            f"{write_number('relative_difference_to_global', gap)} of its size."
        )
        words += [] if report.rounding is None else [explain_rounding(report.rounding)]
    words.append(summarise_retention([runs[merge] for merge in best]))
    return " ".join(word for word in words if word)


def explain_rounding(rounding: float) -> str:
    """Say what rounding alone explains of a difference."""
    size = write_number("relative_difference_to_global", rounding)
    return (
        f"Rounding alone explains about {size}: that is how far errors of the model's "
        "precision in keys and residuals move the update."
    )


def summarise_retention(runs: Sequence[RunReport]) -> str:
    """Return how much of earlier rounds is retained after the last, if it is known."""
    merges: dict[str, list[str]] = {}
    for run in runs:
        share = metrics_row(run.merge, run.metrics[-1])["retention"]
        if isinstance(share, float):
            merges.setdefault(write_number("retention", share), []).append(run.merge)
    shares = [f"{share} per cent ({' and '.join(by)})" for share, by in merges.items()]
    opening = f"After the last round the model still answers {' and '.join(shares)} of "
    return opening + "the requests of all earlier rounds." if shares else ""


def markdown_table(table: TableText) -> str:
    """Return a Markdown table, labels to the left and numbers to the right."""
    lines = [table.heads, *table.rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    ruler = [":--" if index == 0 else "--:" for index in range(len(table.heads))]
    drawn = [escaped[0], ruler, *escaped[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in drawn)
