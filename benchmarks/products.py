"""Seconds of the products that a party forms of its keys, at equal results.

    python -m benchmarks.products [--width D] [--quick]

Encoding: the rank from singular values, as before, against `editing.algebra.encodings`.
Covariance: all of ``KᵀK`` in float64, as before, against `editing.covariance.sums`, and
against all of it in float32, which is not precise enough. Keys are random.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from editing.algebra.encodings import draw_rotation, encode
from editing.covariance.sums import BLOCK, add_products

REPEATS = 3
PARTIES = (1, 10, 100)
"""Edits of a party."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both steps in turn, compare results, and write a table."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    lines = [_race_encodings(count, options.width) for count in PARTIES]
    lines.append(
        _race_covariances(BLOCK if options.quick else 4 * BLOCK, options.width)
    )
    sys.stdout.write(
        f"keys {options.width} wide, {options.threads} threads, ms of CPU\n\n"
        "| what | before | ours | ratio | difference |\n|---|--:|--:|--:|--:|\n"
        + "".join(lines)
    )
    return 0


def encode_by_singular_values(keys: Tensor, residuals: Tensor) -> list[Tensor]:
    """Rotate ``S Vᵀ`` and ``UᵀR``."""
    left, scale, right = torch.linalg.svd(keys, full_matrices=False)
    rounding = torch.finfo(keys.dtype).eps * max(keys.shape)
    rank = int((scale > rounding * scale.max()).sum().item())
    rotation = draw_rotation(rank, torch.Generator().manual_seed(0))
    rows, answers = scale[:rank, None] * right[:rank], left[:, :rank].mT @ residuals
    return [rotation @ rows, rotation @ answers]


def _race_encodings(count: int, width: int) -> str:
    keys = torch.randn(count, width, dtype=torch.float64)
    residuals = torch.randn(count, width // 4, dtype=torch.float64)

    def ours() -> list[Tensor]:
        seeded = torch.Generator().manual_seed(0)
        return [*encode(keys, residuals, "factors", seeded).tensors.values()]

    def gram(pair: list[Tensor]) -> Tensor:
        return torch.cat([pair[0].mT @ pair[0], pair[1].mT @ pair[0]])

    (before, slow), (now, fast) = _best(
        lambda: encode_by_singular_values(keys, residuals), ours
    )
    return _line(f"encode {count} edits", slow, fast, gram(now), gram(before))


def _race_covariances(tokens: int, width: int) -> str:
    keys = torch.nn.functional.gelu(torch.randn(tokens, width))
    totals = [torch.zeros(width, width, dtype=torch.float64) for _ in range(3)]

    def full() -> Tensor:
        exact = keys.double()
        return totals[0].addmm_(exact.mT, exact)

    def ours() -> Tensor:
        add_products(totals[1], keys, torch.float64)
        return totals[1]

    def single() -> Tensor:
        for block in keys.split(BLOCK):
            totals[2].add_(block.mT @ block)
        return totals[2]

    (before, slow), (now, fast), (rough, other) = _best(full, ours, single)
    return _line(
        f"covariance, {tokens} tokens", slow, fast, now.triu(), before.triu()
    ) + _line("the same in float32 (not used)", slow, other, rough, before)


def _best(*ways: Callable[[], Any]) -> list[tuple[Any, float]]:
    """Run ways in turn; give what each found, and its CPU seconds at best."""
    best: list[tuple[Any, float]] = [(None, float("inf"))] * len(ways)
    for _ in range(REPEATS):
        for place, work in enumerate(ways):
            start = time.process_time()
            found = work()
            seconds = time.process_time() - start
            best[place] = (found, min(seconds, best[place][1]))
    return best


def _line(what: str, slow: float, fast: float, ours: Tensor, other: Tensor) -> str:
    gap = float((ours - other).norm() / other.norm())
    return (
        f"| {what} | {1000 * slow:.2f} | {1000 * fast:.2f} | {slow / fast:.1f} "
        f"| {gap:.0e} |\n"
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products")
    parser.add_argument("--width", type=int, default=3072, help="of the keys")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch")
    parser.add_argument("--quick", action="store_true", help="fewer tokens")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
