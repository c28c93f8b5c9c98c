"""A run's means over its cases, where its report is all that there is of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editing.evaluation.metrics import RANGES
from server.report.data import RoundMetrics, read_report


@dataclass(frozen=True, slots=True)
class ReportedMeans:
    """What a report says of all edits of a merge.

    Attributes:
        metrics: Means over cases, shares in per cent.
        definitions: The ids of their definitions.
        evaluated: How many cases they are over.
    """

    metrics: Mapping[str, float]
    definitions: Mapping[str, str]
    evaluated: int


def read_means(path: Path) -> dict[str, ReportedMeans]:
    """Read a ``report.json``; the means of each merge, under ``""`` of a single one.

    A file that is no report of ours is an `InputError`.
    """
    report = read_report(path)
    found = {}
    for run in report.runs:
        metrics, evaluated = measure_all(run.metrics)
        definitions = run.define_metrics()
        known = {name: definitions[name] for name in metrics if name in definitions}
        name = "" if len(report.runs) == 1 else run.merge
        found[name] = ReportedMeans(metrics, known, evaluated)
    return found


def measure_all(rounds: Sequence[RoundMetrics]) -> tuple[dict[str, float], int]:
    """Return the means over the cases of all rounds, after the last, and their number.

    The last round has them together where answers were generated, else by round: a
    mean over all is ``Σ n m / Σ n``.
    """
    last = rounds[-1]
    if last.all_edits:
        return keep_known(last.all_edits), round(last.all_edits.get("evaluated", 0))
    parts = last.by_round or (last,)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for each in parts:
        number = each.evaluated or 0
        for name, value in keep_known(list_metrics(each)).items():
            sums[name] = sums.get(name, 0.0) + number * value
            counts[name] = counts.get(name, 0) + number
    means = {name: sums[name] / counts[name] for name in sums if counts[name]}
    return means, sum(each.evaluated or 0 for each in parts)


def list_metrics(metrics: RoundMetrics) -> dict[str, float]:
    """Return the numbers of a round by name, those of parts of prompts included."""
    plain = metrics.model_dump(include=set(RANGES), exclude_none=True)
    return plain | dict(metrics.groups)


def keep_known(metrics: Mapping[str, float]) -> dict[str, float]:
    """Take the metrics of cases; a score follows from them."""
    return {name: metrics[name] for name in metrics if name in RANGES}
