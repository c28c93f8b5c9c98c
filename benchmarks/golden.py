"""The table of measured differences to the golden values, as Markdown.

Every line is ‖ours − golden‖ / ‖golden‖ over a whole tensor, the largest of those that
the line names; `tests/golden.py` has the tolerances. Run it with

    python -m benchmarks.golden [--golden DIR]
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.solving import Prior
from editing.algebra.statistics import LayerStatistics
from editing.evaluation.cases import evaluate_requests
from editing.hyperparameters.config import Plan, Schedule
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone
from editing.memit.residuals import compute_residuals, read_hidden
from editing.memit.targets import Targets, compute_targets
from strategies.merges.choice import read_merge
from tests.golden import (
    CLIENTS,
    FOLDER,
    GOLDEN_END_TO_END,
    GOLDEN_PAIRS,
    GOLDEN_TARGETS,
    SCHEDULES,
    Golden,
    delta_tolerance,
    load_golden,
)
from tests.laws import GOLDEN_DELTA, relative_difference

MERGES = {
    "collabedit": "CollabEdit",
    "simple-average": "SA",
    "task-arithmetic": "TA",
    "ties": "TIES",
}
FROZEN = ("frozen.global", *CLIENTS)


@dataclass(frozen=True)
class Line:
    """One measured difference."""

    what: str
    tolerance: float
    difference: float

    def __str__(self) -> str:
        """A row of the table."""
        mark = "" if self.difference <= self.tolerance else " **over**"
        shown = f"{self.difference:.1e}" if self.difference else "0"
        wanted = f"{self.tolerance:.0e}" if self.tolerance else "0"
        return f"| {self.what} | {wanted} | {shown}{mark} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all, and write the table; 1 if a difference is over its tolerance."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.golden")
    parser.add_argument("--golden", type=Path, default=FOLDER, help="golden folder")
    folder: Path = parser.parse_args(arguments).golden
    if not folder.is_dir():
        sys.stderr.write(f"No folder of golden values at {folder}.\n")
        return 2
    case = load_golden(folder)
    sys.stdout.write("| what | tolerance | measured |\n|---|---|---|\n")
    passed = True
    for line in measure(case):
        sys.stdout.write(f"{line}\n")
        passed = passed and line.difference <= line.tolerance
    return 0 if passed else 1


def measure(case: Golden) -> Iterator[Line]:
    """Yield all lines, in the order the data flows."""
    targets = compute_targets(
        case.model, case.requests, case.templates, case.parameters
    )
    yield from _target_lines(case, targets.states)
    yield from _pair_lines(case)
    yield from _delta_lines(case, targets)
    yield from _merge_lines(case)
    yield from _evaluation_lines(case)


def _largest(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    return max(relative_difference(ours, theirs) for ours, theirs in pairs)


def _target_lines(case: Golden, ours: Tensor) -> Iterator[Line]:
    theirs = case.rows("memit.targets")
    whole = relative_difference(ours, theirs)
    yield Line("targets, all", GOLDEN_TARGETS, whole)
    worst = _largest(zip(ours, theirs, strict=True))
    yield Line("targets, worst request", GOLDEN_TARGETS, worst)


def _pair_lines(case: Golden) -> Iterator[Line]:
    """Pairs on the unedited model: all requests, and each client's."""
    keys, residuals = [], []
    for run in FROZEN:
        requests = case.requests_of(run)
        found = extract_keys(case.model, requests, case.templates, case.layers)
        hidden = read_hidden(case.model, requests, case.layers[-1])
        for index, layer in enumerate(case.layers):
            keys.append((found[layer], case.rows(f"{run}.keys.{layer}")))
            share = case.parameters.share(index, "frozen-harmonic")
            ours = compute_residuals(case.rows(f"{run}.targets"), hidden, share)
            residuals.append((ours, case.rows(f"{run}.residuals.{layer}")))
    yield Line("keys, global and four clients", GOLDEN_PAIRS, _largest(keys))
    what = "frozen residuals given golden targets, likewise"
    yield Line(what, GOLDEN_PAIRS, _largest(residuals))


def _delta_lines(case: Golden, targets: Targets) -> Iterator[Line]:
    for given, tolerance in ((True, delta_tolerance(case)), (False, GOLDEN_END_TO_END)):
        for run, schedule in SCHEDULES.items():
            plan = Plan(
                parameters=case.parameters,
                schedule=cast("Schedule", schedule),
                templates=case.templates,
            )
            start = case.rows(f"{run}.targets") if given else targets
            ours = edit_alone(case.model, case.requests, plan, case.priors, start)
            gap = _largest((ours[name], each) for name, each in case.delta(run).items())
            source = "given golden targets" if given else "end to end"
            yield Line(f"{schedule} deltas, {source}", tolerance, gap)


def _merge_lines(case: Golden) -> Iterator[Line]:
    """Merges of the clients' golden keys and residuals."""
    for merge, theirs in MERGES.items():
        pairs = []
        for layer in case.layers:
            parties = [
                LayerStatistics.of_pairs(
                    case.rows(f"{client}.keys.{layer}"),
                    case.rows(f"{client}.residuals.{layer}"),
                )
                for client in CLIENTS
            ]
            ours = read_merge(merge)(parties, Prior(case.priors[layer]))
            pairs.append((ours, case.tensors[f"frozen.merged.{theirs}.{layer}"]))
        yield Line(f"merge {merge}, four clients", GOLDEN_DELTA, _largest(pairs))


def _evaluation_lines(case: Golden) -> Iterator[Line]:
    for run, schedule in SCHEDULES.items():
        with applied(case.delta(run), case.model.model):
            cases = evaluate_requests(case.model, case.requests)
        gaps, wrong = [], 0
        for ours, theirs in zip(cases, case.cases[run], strict=True):
            post = cast("dict[str, list[Any]]", ours["post"])
            for field, values in theirs["post"].items():
                if field.endswith("_correct"):
                    wrong += post[field] != values
                    continue
                for mine, wanted in zip(post[field], values, strict=True):
                    gaps += [abs(mine[name] - wanted[name]) for name in wanted]
                    wrong += _prefers_new(mine) != _prefers_new(wanted)
        name = f"evaluation after {schedule}"
        yield Line(f"{name}: NLL, absolute", GOLDEN_END_TO_END, max(gaps))
        yield Line(f"{name}: other successes or correctness", 0, wrong)


def _prefers_new(likelihoods: dict[str, float]) -> bool:
    return likelihoods["target_new"] < likelihoods["target_true"]


if __name__ == "__main__":
    raise SystemExit(main())
