"""Averages over the cases of runs, and over the runs of one editor."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from editing.base.errors import InputError
from editing.evaluation.definitions import find_unlike, name_apart
from editing.evaluation.metrics import KINDS, harmonic_mean
from sims.results.cases import CaseMetrics, RunCases, read_run
from sims.results.folders.runs import Fault, Run


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """The runs of one editor, or of one of its parts.

    Attributes:
        label: The editor, its run if there is one alone, and the part.
        runs: How many runs were averaged.
        cases: How many cases they hold together.
        means: Metrics, shares in per cent; the mean over runs of means over cases, and
            `score`, the harmonic mean of the three successes so found.
        deviations: Standard deviations: with several runs of the runs' means (``n −
            1``), `score` included; with one run of its cases (``n``, as in MEMIT). A
            metric that was measured once has none.
    """

    label: str
    runs: int
    cases: int
    means: Mapping[str, float]
    deviations: Mapping[str, float]

    @property
    def over(self) -> str:
        """What the deviations are over."""
        return "runs" if self.runs > 1 else "cases"


@dataclass(frozen=True, slots=True)
class Summary:
    """Averages of runs, and the files that could not be read."""

    rows: tuple[SummaryRow, ...]
    faults: tuple[Fault, ...]


def summarize_runs(
    runs: Sequence[Run], first: int | None = None, faults: Sequence[Fault] = ()
) -> Summary:
    """Read runs and average those of one editor, part by part.

    Figures whose definitions are unlike are never averaged; they get a column each.

    Args:
        runs: What to read.
        first: How many cases of each run to take, by case number; all if None.
        faults: What was wrong before.

    Raises:
        InputError: If not one case can be read.
    """
    read = name_figures_apart({run: read_run(run, first) for run in runs})
    found = (*faults, *(each for cases in read.values() for each in cases.faults))
    groups: dict[Path, dict[Run, RunCases]] = {}
    for run, cases in read.items():
        groups.setdefault(run.group, {})[run] = cases
    titles = name_groups(groups)
    rows = [
        row for group in groups for row in _rows_of_group(titles[group], groups[group])
    ]
    if not rows:
        raise InputError(
            f"No case could be read; the first of {len(found)} faults is "
            f"{found[0].path}: {found[0].reason}"
        )
    return Summary(tuple(rows), found)


def name_figures_apart(read: Mapping[Run, RunCases]) -> dict[Run, RunCases]:
    """Name metrics of several definitions by these, over all runs."""
    unlike = find_unlike(
        ids
        for cases in read.values()
        for each in cases.definitions.values()
        for ids in each
    )
    return {
        run: replace(
            cases,
            parts={
                part: [
                    name_apart(metrics, ids, unlike)
                    for metrics, ids in zip(each, cases.definitions[part], strict=True)
                ]
                for part, each in cases.parts.items()
            },
        )
        for run, cases in read.items()
    }


def name_groups(groups: Iterable[Path]) -> dict[Path, str]:
    """Name editors by their folders, by the whole path where names are alike."""
    listed = list(groups)
    names = [group.name for group in listed]
    return {
        group: group.name if names.count(group.name) == 1 else str(group)
        for group in listed
    }


def _rows_of_group(title: str, group: Mapping[Run, RunCases]) -> list[SummaryRow]:
    parts = dict.fromkeys(part for read in group.values() for part in read.parts)
    rows = []
    for part in parts:
        holders = {
            run: read.parts[part] for run, read in group.items() if part in read.parts
        }
        run = next(iter(holders))
        number = run.number if len(holders) == 1 else ""
        label = "/".join(word for word in (title, number, part) if word)
        if len(holders) > 1:
            label += f" ({len(holders)} runs)"
        row = average(label, list(holders.values()))
        whole = [group[run].evaluated.get(part, 0) for run in holders]
        rows.append(replace(row, cases=sum(whole)) if any(whole) else row)
    return rows


def average(label: str, runs: Sequence[Sequence[CaseMetrics]]) -> SummaryRow:
    """Average over the cases of each run, and then over runs."""
    frames = [pd.DataFrame([dict(case) for case in cases]) for cases in runs]
    by_run = pd.DataFrame([_add_score(_numbers(frame.mean())) for frame in frames])
    # The score of the row's successes, and not a mean of the runs' scores.
    metrics = by_run.drop(columns="score", errors="ignore")
    repeated = frames[0].loc[:, frames[0].count() > 1]
    spread = by_run.std(ddof=1) if len(frames) > 1 else repeated.std(ddof=0)
    return SummaryRow(
        label=label,
        runs=len(frames),
        cases=sum(map(len, frames)),
        means=_add_score(_numbers(metrics.mean())),
        deviations=_numbers(spread.dropna()),
    )


def _numbers(series: "pd.Series[float]") -> dict[str, float]:
    return {str(name): float(value) for name, value in series.items()}


def _add_score(means: Mapping[str, float]) -> dict[str, float]:
    successes = [means.get(f"{kind}_success") for kind in KINDS]
    known = [value for value in successes if value is not None]
    score = {"score": harmonic_mean(known)} if len(known) == len(KINDS) else {}
    return score | dict(means)
