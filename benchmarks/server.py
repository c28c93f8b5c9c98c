"""The server's algebra against the plain way, on the same inputs in one run.

    python -m benchmarks.server [--width 3072] [--outputs 768]
    python -m benchmarks.server --busy 4

The plain way multiplies each party's factors, checks the products, adds them up,
factorises the whole system for every solve and stacks the parties' deltas. Seconds are
of the CPU on one thread, the least of the repetitions, in which both ways take turns.

With `--busy`, so many other processes compute meanwhile, and Cholesky factors are timed
by the clock: on one thread, on all, and on as many as their width is given here.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from math import ceil
from statistics import median

import torch
from torch import Tensor

from benchmarks import say
from editing.algebra.encodings import EncodedStatistics, decode
from editing.algebra.solving import Prior, solve_delta
from editing.algebra.statistics import LayerStatistics, NormBounds, Total
from editing.algebra.threads import threads_for
from strategies.merges.choice import read_merge

BOUNDS = NormBounds(1e6, 1e6)
DENSITY, SCALE = 0.2, 0.4
"""The defaults of TIES."""

Pairs = tuple[Tensor, Tensor]


def plain_decode(pairs: Pairs) -> Pairs:
    """Multiply, and check the products."""
    keys, residuals = pairs
    gram, cross = keys.mT @ keys, residuals.mT @ keys
    assert gram.isfinite().all()
    assert cross.isfinite().all()
    squares = gram.diagonal()
    assert (squares.sum() / len(keys)).sqrt() <= BOUNDS.key
    reach = BOUNDS.residual * (len(keys) * squares).sqrt()
    assert (cross.norm(dim=0) <= reach).all()
    return gram, cross


def plain_sum(parties: Sequence[Pairs]) -> Pairs:
    """Add up, with a new total for each party."""
    total = plain_decode(parties[0])
    for pairs in parties[1:]:
        gram, cross = plain_decode(pairs)
        total = total[0] + gram, total[1] + cross
    return total


def plain_solve(sums: Pairs, prior: Tensor) -> Tensor:
    """Factorise the system, and solve one right side for each output and one more."""
    system = prior + sums[0]
    factor = torch.linalg.cholesky(system)
    known = system.diagonal().rsqrt()[None]
    rows = torch.cat([sums[1], known @ system])
    return torch.cholesky_solve(rows.mT, factor).mT[:-1]


def plain_average(parties: Sequence[Pairs], prior: Tensor) -> Tensor:
    """Stack the parties' deltas."""
    return torch.stack([plain_solve(sums, prior) for sums in parties]).mean(dim=0)


def plain_ties(parties: Sequence[Pairs], prior: Tensor) -> Tensor:
    """Trim, elect and average a stack."""
    deltas = torch.stack([plain_solve(sums, prior) for sums in parties])
    sizes = deltas.flatten(1).abs()
    rank = sizes.shape[1] - ceil(DENSITY * sizes.shape[1]) + 1
    least = sizes.kthvalue(rank, dim=1).values
    kept = deltas.where(deltas.abs() >= least[:, None, None], 0.0)
    agreeing = kept * kept.sum(dim=0).sign() > 0
    voters = agreeing.sum(dim=0).clamp(min=1)
    return SCALE * kept.where(agreeing, 0.0).sum(dim=0) / voters


def read(parties: Sequence[Pairs]) -> list[LayerStatistics]:
    """Decode the parties' factors, as the server does."""
    return [
        decode(
            EncodedStatistics(
                "factors", {"keys": keys, "residuals": values}, len(keys)
            ),
            keys.shape[1],
            values.shape[1],
            BOUNDS,
        )
        for keys, values in parties
    ]


def add_up(parties: Sequence[Pairs]) -> Tensor:
    """Decode and sum, and make the gram."""
    total = Total()
    for part in read(parties):
        total.add(part)
    return total.statistics().gram


def draw(parties: int, rows: int, width: int, outputs: int) -> list[Pairs]:
    """Draw random factors."""
    generator = torch.Generator().manual_seed(parties + rows)
    return [
        (
            torch.randn(rows, width, generator=generator, dtype=torch.float64),
            torch.randn(rows, outputs, generator=generator, dtype=torch.float64),
        )
        for _ in range(parties)
    ]


def draw_prior(width: int) -> Tensor:
    """Draw a prior whose eigenvalues fall off as a covariance's do."""
    generator = torch.Generator().manual_seed(width)
    text = torch.randn(2 * width, width, generator=generator, dtype=torch.float64)
    text *= torch.linspace(0, -2, width, dtype=torch.float64).exp()
    return 20 * (text.mT @ text) / len(text) + 1e-3 * torch.eye(width)


def compare(
    name: str,
    plain: Callable[[], Tensor],
    ours: Callable[[], Tensor],
    repeats: int = 2,
    parties: int = 1,
) -> None:
    """Take turns, and print a row."""
    seconds: tuple[list[float], list[float]] = [], []
    found: list[Tensor] = []
    for _ in range(repeats):
        found = []
        for taken, way in zip(seconds, (plain, ours), strict=True):
            start = time.process_time()
            found.append(way())
            taken.append((time.process_time() - start) / parties)
    gap = float((found[1] - found[0]).norm() / found[0].norm())
    old, new = (min(taken) for taken in seconds)
    say(f"| {name} | {old:.4f} | {new:.4f} | {old / new:.1f} | {gap:.0e} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=3072)
    parser.add_argument("--outputs", type=int, default=768)
    parser.add_argument("--busy", type=int)
    chosen = parser.parse_args()
    if chosen.busy is not None:
        measure_threads(chosen.busy)
        return
    torch.set_num_threads(1)
    width, outputs = chosen.width, chosen.outputs
    say("| what | plain, s | here, s | ratio | relative difference |")
    say("|---|--:|--:|--:|--:|")
    for rows in (1, 10):
        parties = draw(20, rows, width, outputs)
        compare(
            f"decode, check and add {rows} rows, a party",
            lambda parties=parties: plain_sum(parties)[0],
            lambda parties=parties: add_up(parties),
            parties=20,
        )
    measure_solves(draw(10, 10, width, outputs), draw_prior(width))


def measure_solves(parties: Sequence[Pairs], matrix: Tensor) -> None:
    """Compare merges of ten parties with ten edits each."""
    received, kept = read(parties), Prior(matrix)
    sums = [plain_decode(pairs) for pairs in parties]
    whole = plain_sum(parties)
    total = Total()
    for part in received:
        total.add(part)
    pooled = total.statistics()
    compare(
        "collabedit, 10 × 10, first",
        lambda: plain_solve(whole, matrix),
        lambda: solve_delta(pooled, Prior(matrix)),
    )
    start = time.process_time()
    assert kept.factor is not None
    say(f"| factor of the prior, once | | {time.process_time() - start:.4f} | | |")
    compare(
        "collabedit, 10 × 10, prior kept",
        lambda: plain_solve(whole, matrix),
        lambda: solve_delta(pooled, kept),
    )
    for name, plain in (("simple-average", plain_average), ("ties", plain_ties)):
        merge = read_merge(name)
        compare(
            f"{name}, 10 × 10, prior kept",
            lambda plain=plain: plain(sums, matrix),
            lambda merge=merge: merge(received, kept),
            repeats=1,
        )


def measure_threads(busy: int) -> None:
    """Time the factors of narrow and wide systems while other processes compute."""
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(busy)]
    for other in others:
        other.start()
    say(f"{os.cpu_count()} cores, {busy} processes more; milliseconds, median\n")
    say("| width | one thread | all threads | here | all / one | here / one |")
    say("|--:|--:|--:|--:|--:|--:|")
    for width, repeats in ((128, 31), (512, 21), (1024, 9), (2048, 5), (3072, 3)):
        rows = draw(1, 64, width, 1)[0][0]
        system = rows.mT @ rows + torch.eye(width)
        taken: tuple[list[float], ...] = ([], [], [])
        for _ in range(repeats):
            for seconds, way in zip(
                taken, (one_thread, all_threads, here), strict=True
            ):
                start = time.perf_counter()
                way(system)
                seconds.append(time.perf_counter() - start)
        one, every, ours = (1000 * median(seconds) for seconds in taken)
        cells = f"{one:.1f} | {every:.1f} | {ours:.1f} | {every / one:.1f}"
        say(f"| {width} | {cells} | {ours / one:.1f} |")
    for other in others:
        other.terminate()


def spin() -> None:
    """Compute until stopped."""
    while True:
        sum(range(10**6))


def one_thread(system: Tensor) -> None:
    """Factorise on one thread."""
    torch.set_num_threads(1)
    torch.linalg.cholesky(system)


def all_threads(system: Tensor) -> None:
    """Factorise on as many threads as there are cores."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.linalg.cholesky(system)


def here(system: Tensor) -> None:
    """Factorise on as many as its width is given."""
    torch.set_num_threads(os.cpu_count() or 1)
    with threads_for(len(system)):
        torch.linalg.cholesky(system)


if __name__ == "__main__":
    main()
