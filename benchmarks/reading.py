"""Seconds and memory that reading a file of requests takes, in each form of file.

As many records as CounterFact has, in its form: drawn from a sample of real ones if
that is at hand, otherwise from the embedded requests, each with a case number of its
own. Every form must give the same requests. Run it with

    python -m benchmarks.reading [--records FILE] [--count N] [--threads N]
"""

import argparse
import json
import random
import sys
import tempfile
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import pyarrow  # type: ignore[import-untyped]

from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest, read_requests
from editing.requests.records import read_records

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT.parent / "shared" / "data" / "multi_counterfact_sample.json"
EMBEDDED = ROOT / "sims" / "embedded" / "requests.json"
COUNTERFACT = 20_877
"""Records of MultiCounterFact."""

FIRST = 10
REPEATS = 2
MIB = 2**20

Record = dict[str, Any]


@dataclass(frozen=True)
class Timed:
    """What was read, and what it took.

    Attributes:
        requests: In the order of the file.
        wall: Seconds by the clock.
        cpu: Seconds of all threads, which other programs lengthen less.
    """

    requests: list[EditRequest]
    wall: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Read all forms of file, compare what they give, and write two tables."""
    options = _read_options(arguments)
    pyarrow.set_cpu_count(options.threads)
    datasets.disable_progress_bars()
    try:
        records = draw_records(options.records, options.count, options.seed)
    except (InputError, OSError, ValueError) as error:
        sys.stderr.write(f"{options.records}: {error}\n")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        forms = write_forms(records, Path(scratch))
        plain = forms["JSON list"]
        size = plain.stat().st_size
        rows = {name: (_best(path, FIRST), _best(path)) for name, path in forms.items()}
        piecewise = peak_memory(lambda: deque(read_records(plain), maxlen=0))
        with plain.open(encoding="ascii") as stream:
            whole = peak_memory(lambda: json.load(stream))
    _hold_equal(rows)
    sys.stdout.write(
        f"{len(records)} records drawn from {options.records.name}, "
        f"{size / MIB:.1f} MiB as a JSON list; {options.threads} threads, seconds of "
        f"the clock (of all threads), best of {REPEATS}\n\n"
        f"{_table(rows)}\n"
        f"peak memory: {piecewise / 1024:.0f} KiB for the records of the JSON list, "
        f"{whole / MIB:.0f} MiB for json.load\n"
    )
    return 0


def draw_records(path: Path, count: int, seed: int) -> list[Record]:
    """Draw records of a JSON list with replacement, and number them anew.

    Args:
        path: Of records in CounterFact's form.
        count: How many to draw.
        seed: Of the draw.
    """
    pool: list[Record] = json.loads(path.read_bytes())
    drawn = random.Random(seed).choices(pool, k=count)
    return [{**record, "case_id": number} for number, record in enumerate(drawn)]


def write_forms(records: Sequence[Record], folder: Path) -> dict[str, Path]:
    """Write the same records in every form of file, and name the files."""
    names = ("list.json", "lines.jsonl", "columns.parquet", "saved")
    plain, lines, columns, saved = (folder / name for name in names)
    texts = [json.dumps(record) for record in records]
    plain.write_text(f"[{', '.join(texts)}]\n", encoding="ascii")
    lines.write_text("".join(f"{text}\n" for text in texts), encoding="ascii")
    table = datasets.Dataset.from_list(list(records))
    table.to_parquet(columns)
    table.save_to_disk(saved)
    return {
        "JSON list": plain,
        "JSON Lines": lines,
        "Parquet": columns,
        "saved by `datasets`": saved,
    }


def peak_memory(work: Callable[[], object]) -> int:
    """Most bytes that Python objects take at once in a piece of work."""
    tracemalloc.start()
    try:
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


def _best(path: Path, limit: int | None = None) -> Timed:
    timed = (_time(path, limit) for _ in range(REPEATS))
    return min(timed, key=lambda each: each.wall)


def _time(path: Path, limit: int | None) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    requests = read_requests(path, limit)
    return Timed(requests, time.perf_counter() - wall, time.process_time() - cpu)


def _hold_equal(rows: dict[str, tuple[Timed, Timed]]) -> None:
    wanted = rows["JSON list"][1].requests
    for name, (first, whole) in rows.items():
        if first.requests != wanted[:FIRST] or whole.requests != wanted:
            raise SystemExit(f"{name}: gives other requests than the JSON list")


def _table(rows: dict[str, tuple[Timed, Timed]]) -> str:
    lines = "".join(
        f"| {name} | {first.wall:.3f} ({first.cpu:.3f}) "
        f"| {whole.wall:.1f} ({whole.cpu:.1f}) |\n"
        for name, (first, whole) in rows.items()
    )
    return f"| form | the first {FIRST} | all |\n|---|---|---|\n{lines}"


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading")
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        default=SAMPLE if SAMPLE.is_file() else EMBEDDED,
        help="a JSON list of records in CounterFact's form",
    )
    parser.add_argument("--count", type=int, default=COUNTERFACT, help="records")
    parser.add_argument("--seed", type=int, default=0, help="draws the records")
    parser.add_argument("--threads", type=int, default=2, help="threads for Parquet")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
