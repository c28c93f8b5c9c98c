"""Seconds per target: the batch against one request at a time, at equal results.

The other side is MEMIT's own loop as `tests/naive.py` writes it: at every step a full
forward pass of all prompts of one request in one padded batch, and a backward pass
through the blocks behind the edit, weights without gradients. Run it with

    python -m benchmarks.targets [--model DIR] [--count N] [--threads N]
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editing.base.errors import InputError
from editing.hyperparameters.choice import choose_hyperparameters
from editing.hyperparameters.config import EditingConfig, Hyperparameters
from editing.memit.context_templates import choose_templates
from editing.memit.targets import compute_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest, read_requests, sample_requests
from tests.golden import FOLDER, load_golden
from tests.naive import naive_target

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "sims" / "embedded"
REPEATS = 3


@dataclass(frozen=True)
class Case:
    """What targets are computed for."""

    name: str
    model: EditableModel
    requests: list[EditRequest]
    templates: tuple[str, ...]
    parameters: Hyperparameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both, compare their results, and write one line each."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    try:
        case = _load_case(options.model, options.requests, options.count)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _compute_naively(case, case.requests[:1])
    _compute_together(case, case.requests[:1])
    slow = _best(lambda: _compute_naively(case, case.requests))
    fast = _best(lambda: _compute_together(case, case.requests))
    sys.stdout.write(_report(case, slow, fast))
    return 0


@dataclass(frozen=True)
class Timed:
    """Targets, and what they took.

    Attributes:
        targets: One row a request.
        wall: Seconds by the clock.
        cpu: Seconds of all threads, which other programs lengthen less.
    """

    targets: Tensor
    wall: float
    cpu: float


def _report(case: Case, slow: Timed, fast: Timed) -> str:
    gaps = (fast.targets - slow.targets).norm(dim=1) / slow.targets.norm(dim=1)
    count, threads = len(case.requests), torch.get_num_threads()
    rows = {"one request at a time": slow, "in a batch": fast}
    table = "".join(
        f"| {name} | {each.wall / count:.4f} | {each.cpu / count:.4f} |\n"
        for name, each in rows.items()
    )
    return (
        f"{case.name}: {count} targets, {threads} threads; seconds a target, "
        f"best of {REPEATS}\n\n"
        "| | wall | cpu |\n|---|---|---|\n"
        f"{table}"
        f"| ratio | {slow.wall / fast.wall:.1f} | {slow.cpu / fast.cpu:.1f} |\n\n"
        f"largest relative difference of a request: {gaps.max().item():.1e}\n"
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets")
    parser.add_argument(
        "--model",
        type=Path,
        help="model folder; by default the embedded one, or the golden one",
    )
    parser.add_argument(
        "--requests", type=Path, help="by default requests.json in the model folder"
    )
    parser.add_argument("--count", type=int, default=100, help="targets to compute")
    parser.add_argument("--threads", type=int, default=2, help="threads for torch")
    return parser.parse_args(arguments)


def _load_case(folder: Path | None, requests: Path | None, count: int) -> Case:
    if folder is None and not (EMBEDDED / "config.json").is_file():
        found = load_golden(FOLDER)
        some = found.requests[:count]
        return Case("golden", found.model, some, found.templates, found.parameters)
    folder = folder or EMBEDDED
    chosen = choose_hyperparameters(EditingConfig(), str(folder))
    model = chosen.load(str(folder), "float32", "cpu")
    pool = read_requests(requests or folder / "requests.json")
    return Case(
        folder.name,
        model,
        sample_requests(pool, count, seed=0),
        choose_templates(model, EditingConfig(), folder),
        chosen.fit(model),
    )


def _compute_naively(case: Case, requests: Sequence[EditRequest]) -> Tensor:
    found = [
        naive_target(case.model, request, case.templates, case.parameters).target
        for request in requests
    ]
    return torch.stack(found)


def _compute_together(case: Case, requests: Sequence[EditRequest]) -> Tensor:
    return compute_targets(case.model, requests, case.templates, case.parameters).states


def _best(work: Callable[[], Tensor]) -> Timed:
    return min((_timed(work) for _ in range(REPEATS)), key=lambda timed: timed.wall)


def _timed(work: Callable[[], Tensor]) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    targets = work()
    return Timed(targets, time.perf_counter() - wall, time.process_time() - cpu)


if __name__ == "__main__":
    raise SystemExit(main())
