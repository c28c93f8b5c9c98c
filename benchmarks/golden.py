"""The table of measured differences to the golden values, as Markdown.

Every line is ‖ours − golden‖ / ‖golden‖ over a whole tensor, the largest of those that
the line names; `tests/golden.py` has the tolerances. Run it with

    python -m benchmarks.golden [--golden DIR]

A folder may hold any number of clients, each with any number of requests.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from editing.algebra.deltas import applied
from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics
from editing.evaluation.cases import evaluate_requests
from editing.hyperparameters.config import Plan, Schedule
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone
from editing.memit.residuals import compute_residuals, read_hidden
from editing.memit.targets import Targets, compute_targets
from strategies.merges.choice import read_merge
from tests.golden import (
    FOLDER,
    GOLDEN_END_TO_END,
    GOLDEN_PAIRS,
    GOLDEN_TARGETS,
    SCHEDULES,
    Golden,
    delta_tolerance,
    load_golden,
)
from tests.laws import GOLDEN_DELTA, make_targets, relative_difference

MERGES = {
    "collabedit": "CollabEdit",
    "simple-average": "SA",
    "task-arithmetic": "TA",
    "ties": "TIES",
}


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
    yield from _frozen_pair_lines(case)
    yield from _layerwise_pair_lines(case)
    yield from _solve_lines(case)
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


def _frozen_pair_lines(case: Golden) -> Iterator[Line]:
    """Pairs on the unedited model: all requests, and each client's."""
    keys, residuals = [], []
    for run in ("frozen.global", *case.clients):
        requests = case.requests_of(run)
        found = extract_keys(case.model, requests, case.templates, case.layers)
        hidden = read_hidden(case.model, requests, case.layers[-1])
        for index, layer in enumerate(case.layers):
            keys.append((found[layer], case.rows(f"{run}.keys.{layer}")))
            share = case.parameters.share(index, "frozen-harmonic")
            ours = compute_residuals(case.rows(f"{run}.targets"), hidden, share)
            residuals.append((ours, case.rows(f"{run}.residuals.{layer}")))
    what = f"keys, global and {len(case.clients)} clients"
    yield Line(what, GOLDEN_PAIRS, _largest(keys))
    what = "frozen residuals given golden targets, likewise"
    yield Line(what, GOLDEN_PAIRS, _largest(residuals))


def _layerwise_pair_lines(case: Golden) -> Iterator[Line]:
    """Pairs on the model that the golden deltas of earlier layers have edited."""
    keys, residuals = [], []
    earlier: dict[str, Tensor] = {}
    for index, layer in enumerate(case.layers):
        with applied(earlier, case.model.model):
            found = extract_keys(case.model, case.requests, case.templates, [layer])
            hidden = read_hidden(case.model, case.requests, case.layers[-1])
        keys.append((found[layer], case.rows(f"memit.keys.{layer}")))
        share = case.parameters.share(index, "layerwise")
        ours = compute_residuals(case.rows("memit.targets"), hidden, share)
        residuals.append((ours, case.rows(f"memit.residuals.{layer}")))
        earlier[case.model.weight_name(layer)] = case.tensors[f"memit.delta.{layer}"]
    what = "layerwise keys given golden deltas of earlier layers"
    yield Line(what, GOLDEN_PAIRS, _largest(keys))
    what = "layerwise residuals, likewise, given golden targets"
    yield Line(what, GOLDEN_PAIRS, _largest(residuals))


def _statistics(case: Golden, run: str, layer: int) -> LayerStatistics:
    keys, residuals = f"{run}.keys.{layer}", f"{run}.residuals.{layer}"
    return LayerStatistics.of_pairs(case.rows(keys), case.rows(residuals))


def _solve_lines(case: Golden) -> Iterator[Line]:
    """One solve a layer, of golden keys and residuals."""
    for run, schedule in SCHEDULES.items():
        pairs = [
            (
                solve_delta(_statistics(case, run, layer), Prior(case.priors[layer])),
                case.tensors[f"{run}.delta.{layer}"],
            )
            for layer in case.layers
        ]
        what = f"{schedule} deltas, given golden pairs"
        yield Line(what, GOLDEN_DELTA, _largest(pairs))


def _delta_lines(case: Golden, targets: Targets) -> Iterator[Line]:
    hidden = read_hidden(case.model, case.requests, case.layers[-1])
    for given in (True, False):
        for run, schedule in SCHEDULES.items():
            plan = Plan(
                parameters=case.parameters,
                schedule=cast("Schedule", schedule),
                templates=case.templates,
            )
            golden = make_targets(hidden, case.rows(f"{run}.targets"))
            start = golden if given else targets
            ours = edit_alone(case.model, case.requests, plan, case.priors, start)
            gap = _largest((ours[name], each) for name, each in case.delta(run).items())
            tolerance = delta_tolerance(case, run) if given else GOLDEN_END_TO_END
            source = "given golden targets" if given else "end to end"
            yield Line(f"{schedule} deltas, {source}", tolerance, gap)


def _merge_lines(case: Golden) -> Iterator[Line]:
    """Merges of the clients' golden keys and residuals, as far as there are any."""
    for merge, theirs in MERGES.items():
        pairs = []
        if f"frozen.merged.{theirs}.{case.layers[0]}" not in case.tensors:
            continue
        for layer in case.layers:
            parties = [_statistics(case, client, layer) for client in case.clients]
            ours = read_merge(merge)(parties, Prior(case.priors[layer]))
            pairs.append((ours, case.tensors[f"frozen.merged.{theirs}.{layer}"]))
        what = f"merge {merge}, {len(case.clients)} clients"
        yield Line(what, GOLDEN_DELTA, _largest(pairs))


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
