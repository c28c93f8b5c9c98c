"""Seconds per target: batches of several sizes against one request at a time.

The other side is MEMIT's own loop as `tests/naive.py` writes it: at every step a full
forward pass of all prompts of one request in one padded batch, and a backward pass
through the blocks after the edit, weights without gradients. Both run in turn, so that
what else the machine does slows both. Peak memory is above what the process held
before, where the system can tell. Run it with

    python -m benchmarks.targets [--model DIR] [--count N] [--naive N] [--threads N]

With ``--parties N …``, the same requests are those of so many parties of a simulation,
and each party by itself is timed against the batches that the parties share.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clients.round_targets import MOST_TOGETHER, cut_batches
from clients.selection import Asked, Group
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
SIZES = (1, 3, 10)
"""Batches that are timed besides that of all requests."""


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
    _compute_together(case, case.requests[:1])
    if options.parties:
        sys.stdout.write(_report_parties(case, options.parties))
        return 0
    _compute_naively(case, case.requests[:1])
    sizes = [size for size in SIZES if size < len(case.requests)]
    sizes.append(len(case.requests))
    slow, fast = _race(case, sizes, options.naive)
    sys.stdout.write(_report(case, slow, fast))
    return 0


@dataclass(frozen=True)
class Timed:
    """Targets, and what they took.

    Attributes:
        targets: One row a request.
        wall: Seconds by the clock, for each target.
        cpu: Seconds of all threads, for each target; other programs lengthen it less.
        peak: Megabytes above what was held before; None if that is not known.
    """

    targets: Tensor
    wall: float
    cpu: float
    peak: float | None


def _race(
    case: Case, sizes: Sequence[int], naive: int
) -> tuple[Timed, dict[int, Timed]]:
    """Time the loop over some requests and batches of all sizes, in turn."""
    few = case.requests[:naive]
    slow: list[Timed] = []
    fast: dict[int, list[Timed]] = {size: [] for size in sizes}
    for _ in range(REPEATS):
        slow.append(_timed(lambda: _compute_naively(case, few)))
        for size, found in fast.items():
            some = case.requests[:size]
            found.append(_timed(lambda some=some: _compute_together(case, some)))  # type: ignore[misc]
    return _middle(slow), {size: _middle(found) for size, found in fast.items()}


def _report_parties(case: Case, numbers: Sequence[int]) -> str:
    """Time parties by themselves and together, in turn, for some numbers of them."""
    lines = []
    for number in numbers:
        groups = _share(case.requests, number)
        batches = [each.requests for each in cut_batches(groups, MOST_TOGETHER)]
        alone, together = _race_parts(case, [each.requests for each in groups], batches)
        gaps = _gaps(together.targets, alone.targets)
        lines.append(
            f"| {number} × {len(case.requests) / number:g} | {alone.cpu:.4f} | "
            f"{together.cpu:.4f} | {alone.cpu / together.cpu:.2f} | "
            f"{len(batches)} | {gaps.max().item():.1e} |\n"
        )
    return (
        f"{case.name}: {torch.get_num_threads()} threads; CPU seconds a target, middle "
        f"of {REPEATS}\n\n| parties × requests | each by itself | together | ratio | "
        f"batches | difference |\n|---|--:|--:|--:|--:|--:|\n{''.join(lines)}"
    )


def _share(requests: Sequence[EditRequest], parties: int) -> list[Group]:
    """Give each party as many requests, in turn."""
    size = len(requests) // parties
    hands = [requests[place : place + size] for place in range(0, len(requests), size)]
    return [
        Group(
            tuple(Asked(party, 1, place, each) for place, each in enumerate(own)),
            tuple((each,) for each in own),
        )
        for party, own in enumerate(hands)
    ]


def _race_parts(
    case: Case, *ways: Sequence[Sequence[EditRequest]]
) -> tuple[Timed, ...]:
    """Time several ways to cut the same requests into batches."""
    found: list[list[Timed]] = [[] for _ in ways]
    for _ in range(REPEATS):
        for times, parts in zip(found, ways, strict=True):
            times.append(_timed(lambda parts=parts: _compute_parts(case, parts)))  # type: ignore[misc]
    return tuple(map(_middle, found))


def _middle(times: list[Timed]) -> Timed:
    return sorted(times, key=lambda timed: timed.cpu)[len(times) // 2]


def _report(case: Case, slow: Timed, fast: dict[int, Timed]) -> str:
    largest = fast[max(fast)].targets[: len(slow.targets)]
    theirs = slow.targets[: len(largest)]
    gaps = _gaps(largest, theirs)
    rows = {"one at a time": slow}
    rows |= {f"{size} together": timed for size, timed in fast.items()}
    table = "".join(
        f"| {name} | {each.wall:.4f} | {each.cpu:.4f} | {slow.cpu / each.cpu:.1f} | "
        f"{'' if each.peak is None else round(each.peak)} |\n"
        for name, each in rows.items()
    )
    return (
        f"{case.name}: {torch.get_num_threads()} threads; seconds a target, middle "
        f"of {REPEATS}\n\n"
        "| requests | wall | cpu | ratio | peak MB |\n|---|--:|--:|--:|--:|\n"
        f"{table}\n"
        f"largest relative difference of a request: {gaps.max().item():.1e}\n"
    )


def _gaps(ours: Tensor, theirs: Tensor) -> Tensor:
    """Relative difference of each request's target."""
    return (ours - theirs).norm(dim=1) / theirs.norm(dim=1)


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
    parser.add_argument(
        "--naive", type=int, default=10, help="of which so many one at a time"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads for torch")
    parser.add_argument(
        "--parties", type=int, nargs="+", help="numbers of parties that share --count"
    )
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


def _compute_parts(case: Case, parts: Sequence[Sequence[EditRequest]]) -> Tensor:
    return torch.cat([_compute_together(case, part) for part in parts])


def _timed(work: Callable[[], Tensor]) -> Timed:
    held = _forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    targets = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = None if held is None else _read_memory("VmHWM") - held
    return Timed(targets, wall / len(targets), cpu / len(targets), peak)


def _forget_peak() -> float | None:
    """Let the peak begin anew; return the megabytes that are held now."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _read_memory("VmRSS")
    except OSError:
        return None


def _read_memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
