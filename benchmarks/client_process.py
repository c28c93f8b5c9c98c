"""What one message costs a client, whose process starts anew for each.

    python -m benchmarks.client_process [--shape gpt2] [--dtype float32] [--cold]

A model of random weights is written to disk, and processes of their own do what
Flower's client process does for a message that asks for the statistics of one layer:
load the libraries and the model, say by its fingerprint which model it is, read keys
and hidden states of eight requests, and end. Each starts with nothing in memory:

- `copied`: weights read into memory of the process's own, and all of them digested;
- `first`: weights mapped from their file, and all of them digested;
- `later`: mapped, and known by what the first one kept.

All three must read the same bits. Peaks are `VmHWM` of `/proc/self/status`, which
counts pages that processes share; a process's own are its anonymous pages at the end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SIDES = ("copied", "first", "later")
REQUESTS = 8
LAYER = 3
"""The edited layer; residuals are read there, too, as in the last exchange."""

MB = 10**6
SETTLING = 2.5
"""Seconds after which files that were just written may be taken down."""


@dataclass(frozen=True)
class Cost:
    """What one message took.

    Attributes:
        total: Seconds from the start of the process to its end.
        cpu: Seconds of the processor, which depend less on what else a machine does.
        imports: Of them, for the libraries.
        load: Likewise, for tokenizer and weights.
        identity: For the fingerprints.
        work: For keys and hidden states.
        peak: Most bytes resident, shared pages among them.
        own: Bytes at the end that no other process shares.
        answer: Digest of what was read.
    """

    total: float
    cpu: float
    imports: float
    load: float
    identity: float
    work: float
    peak: int
    own: int
    answer: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a message of each kind, or be the process of one."""
    options = _read_options(arguments)
    if options.side:
        sys.stdout.write(json.dumps(answer(options)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stored = options.stored or options.dtype
        write_model(folder / "model", options.shape, stored, REQUESTS)
        time.sleep(SETTLING)
        costs = {side: measure(folder, side, options) for side in SIDES}
    answers = {each.answer for each in costs.values()}
    if len(answers) > 1:
        raise SystemExit("the sides read other bits")
    sys.stdout.write(table(costs, options))
    return 0


def write_model(folder: Path, shape: str, dtype: str, count: int) -> None:
    """Write weights, tokenizer and requests, from a process that forgets them."""
    code = (
        "import sys; from benchmarks.client_process import make_model; "
        "make_model(*sys.argv[1:4], int(sys.argv[4]))"
    )
    words = [str(folder), shape, dtype, str(count)]
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def make_model(folder: str, shape: str, dtype: str, count: int) -> None:
    """Draw a model of a shape and requests, and save them, in shards of 500 MB."""
    from benchmarks.shapes import make_case

    case = make_case(
        argparse.Namespace(shape=shape, count=count, seed=0, dtype=dtype, device="cpu")
    )
    case.model.model.save_pretrained(folder, max_shard_size="500MB")
    case.model.tokenizer.save_pretrained(folder)
    records = [
        {
            "prompt": each.prompt,
            "subject": each.subject,
            "target_new": each.target_new,
        }
        for each in case.requests
    ]
    Path(folder, "requests.json").write_text(json.dumps(records), encoding="utf-8")
    os.sync()


def measure(folder: Path, side: str, options: argparse.Namespace) -> Cost:
    """Run a process of one kind; the quickest of so many."""
    return min(_run(folder, side, options), key=lambda cost: cost.cpu)


def _run(folder: Path, side: str, options: argparse.Namespace) -> Iterator[Cost]:
    command = [sys.executable, "-m", "benchmarks.client_process", "--side", side]
    command += ["--folder", str(folder), "--dtype", options.dtype]
    command += ["--threads", str(options.threads)]
    for _ in range(options.repeats):
        if side == "first":
            for file in folder.glob("cache/*"):
                file.unlink()
        if options.cold:
            drop_pages(folder / "model")
        started = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield Cost(total=time.perf_counter() - started, **json.loads(done.stdout))


def drop_pages(folder: Path) -> None:
    """Ask the system to forget what it holds of the files, so that disks are read."""
    for file in folder.iterdir():
        number = os.open(file, os.O_RDONLY)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(number)


def answer(options: argparse.Namespace) -> Mapping[str, object]:
    """Do a message's work in this process, and say what it took."""
    times = [time.perf_counter()]
    import torch
    from flwr.supernode.runtime import run_clientapp

    import clients.app
    from editing.memit.keys import extract_keys
    from editing.memit.residuals import read_hidden
    from editing.models.fingerprint_cache import FingerprintCache, load_known_model
    from editing.models.loading import load_editable_model
    from editing.requests.edit_request import read_requests

    assert all((run_clientapp, clients.app))  # what a client's process loads
    torch.set_num_threads(options.threads)
    times.append(time.perf_counter())
    path, cache = str(options.folder / "model"), options.folder / "cache"
    if options.side == "copied":
        model = load_editable_model(path, options.dtype)
        for weight in model.model.parameters():
            weight.data = weight.data.clone()
    else:
        model = load_known_model(
            path, options.dtype, "cpu", None, FingerprintCache(cache)
        )
    times.append(time.perf_counter())
    identity = f"{model.fingerprint} {model.tokenizer_fingerprint}"
    times.append(time.perf_counter())
    requests = read_requests(options.folder / "model" / "requests.json")
    keys = extract_keys(model, requests, ("{}",), [LAYER])[LAYER]
    hidden = read_hidden(model, requests, LAYER)
    times.append(time.perf_counter())
    names = ("imports", "load", "identity", "work")
    spans = [after - before for before, after in pairwise(times)]
    return {
        **dict(zip(names, spans, strict=True)),
        "cpu": time.process_time(),
        "peak": _status("VmHWM:"),
        "own": _status("RssAnon:"),
        "answer": _digest(identity, keys.numpy().tobytes(), hidden.numpy().tobytes()),
    }


def _digest(identity: str, *parts: bytes) -> str:
    import hashlib

    digest = hashlib.sha256(identity.encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"the system does not tell {name}")


def table(costs: Mapping[str, Cost], options: argparse.Namespace) -> str:
    """Write one row a side."""
    rows = []
    for side, cost in costs.items():
        spans = (cost.total, cost.imports, cost.load, cost.identity, cost.work)
        cells = [f"{each:.2f}" for each in (*spans, cost.cpu)]
        cells += [f"{each / MB:.0f}" for each in (cost.peak, cost.own)]
        rows.append(f"| {side} | {' | '.join(cells)} |\n")
    stored = options.stored or options.dtype
    temperature = "cold" if options.cold else "in the system's memory"
    names = "weights|total s|imports|load|identity|work|processor s|peak MB|own MB"
    return (
        f"{options.shape}, stored in {stored}, run in {options.dtype}, files "
        f"{temperature}, {options.threads} thread(s), quickest of {options.repeats}\n\n"
        f"| {names.replace('|', ' | ')} |\n{'|---' * 9}|\n{''.join(rows)}"
    )


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_process")
    parser.add_argument("--shape", choices=("gpt2", "gpt2-xl"), default="gpt2")
    parser.add_argument("--dtype", default="float32", help="that the run is in")
    parser.add_argument("--stored", help="precision on disk; the run's if not given")
    parser.add_argument("--cold", action="store_true", help="read files from disk")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
