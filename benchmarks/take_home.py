"""What taking a delta home costs: memory, what `revert` keeps, and a low rank's price.

The first table is of a random-weight model of GPT-2's 124M shape with five edited
layers and a random delta of low rank; `python -m sims apply` runs in a process of its
own for each row, whose peak of resident memory is read where Linux tells it. The
second judges a run's delta on the embedded model, whole and cut to a share of its
energy. Run it with

    python -m benchmarks.take_home [--rank R] [--relative SHARE] [--threads N]
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from clients.own_requests import find_shares
from editing.algebra.deltas import Delta, applied, load_delta, save_delta
from editing.algebra.fingerprints import fingerprint_model
from editing.algebra.low_rank import Spectrum, decompose
from editing.base.errors import InputError
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.hyperparameters.choice import load_named
from editing.sources.embedded import EMBEDDED, locate_embedded
from server.config import RunConfig, read_scenario
from sims.console import hush_libraries
from sims.deltas.adapters import Rank
from sims.deltas.files import FILE
from sims.deltas.model_folders import load_whole, torch_dtype
from sims.deltas.record import EditRecord, read_record
from sims.runs.in_process import run_in_process
from strategies.scenario import flatten

SCENARIO = Path("sims/scenarios/default.toml")
LAYERS = (3, 4, 5, 6, 7)
WAYS = (
    ("float32", "float32", "float32"),
    ("bfloat16", "bfloat16", "bfloat16"),
    ("float16", "float16", "float16"),
    ("bfloat16", "float32", "bfloat16"),
)
"""Precisions of the checkpoint, of the run, and of what is written."""

ENERGIES = (None, 0.9999, 0.999, 0.99, 0.95)
METRICS = ("rewrite_success", "paraphrase_success", "neighborhood_success", "score")
MB = 10**6

WATCHED = """
import pathlib, runpy, sys
import sims.deltas.export
try:
    if sys.argv[1:]:
        runpy.run_module("sims", run_name="__main__", alter_sys=True)
finally:
    status = pathlib.Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    sys.stderr.writelines(line for line in lines if line.startswith("VmHWM:"))
"""
"""Runs the command line and tells, in its last line of errors, the most memory held."""


@dataclass(frozen=True)
class Home:
    """A delta that was taken home.

    Attributes:
        stored: Precision of the checkpoint.
        record: What `apply` wrote of it.
        weights: Bytes of the written model.
        peak: Most bytes resident in memory; None where the system does not tell.
    """

    stored: str
    record: EditRecord
    weights: int
    peak: int | None

    @property
    def share(self) -> float:
        """What `revert` needs, as a share of the edited weights as they are written."""
        width = torch_dtype(self.record.dtype).itemsize
        return (self.record.reversal_bytes or 0) / (self.record.entries * width)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both and write their tables."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    hush_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        homes = list(take_home(folder, options))
        sys.stdout.write(_home_table(homes, _peak_of([], options.threads), options))
        try:
            sys.stdout.write(_embedded_tables(folder, options))
        except InputError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    return 0


def take_home(folder: Path, options: argparse.Namespace) -> Iterator[Home]:
    """Apply a random delta in every way of `WAYS`, one process each.

    Args:
        folder: Where models are written, each removed with it.
        options: Rank and relative size of the delta, seed and threads.
    """
    torch.manual_seed(options.seed)
    model = GPT2LMHeadModel(GPT2Config())
    delta = make_delta(model, options)
    for stored in dict.fromkeys(way[0] for way in WAYS):
        rounded = nn.Module.to(deepcopy(model), torch_dtype(stored))
        rounded.save_pretrained(folder / stored)
        _make_tokenizer().save_pretrained(folder / stored)
    for stored, run, written in WAYS:
        base, output = folder / stored, folder / f"{stored}-{run}-{written}"
        file = folder / FILE
        told = fingerprint_model(load_whole(str(base), run))
        save_delta(delta, file, {"base": told, "dtype": run})
        places = ["--model", base, "--delta", file, "--output", output]
        peak = _peak_of(["apply", *places, "--dtype", written], options.threads)
        record = read_record(output)
        assert record is not None
        size = sum(each.stat().st_size for each in output.glob("*.safetensors"))
        yield Home(stored, record, size, peak)


def make_delta(model: GPT2LMHeadModel, options: argparse.Namespace) -> Delta:
    """Draw an update of each edited weight: ``Δ = c L R``, ``‖Δ‖ = relative ‖W‖``."""
    draw = torch.Generator().manual_seed(options.seed)
    delta: dict[str, Tensor] = {}
    for layer in LAYERS:
        name = f"transformer.h.{layer}.mlp.c_proj.weight"
        weight = model.get_parameter(name).detach()  # d_in × d_out, as Conv1D has it
        d_in, d_out = weight.shape
        left = torch.randn(d_out, options.rank, generator=draw)
        update = left @ torch.randn(options.rank, d_in, generator=draw)
        delta[name] = update * (options.relative * weight.norm() / update.norm())
    return delta


def _make_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")


def _peak_of(words: Sequence[object], threads: int) -> int | None:
    """Run a command of `sims` by itself; without words, load its libraries alone.

    Raises:
        SystemExit: If the command fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    _, found, peak = done.stderr.rpartition("VmHWM:")
    return 1024 * int(peak.split()[0]) if found else None


def _home_table(
    homes: Sequence[Home], floor: int | None, options: argparse.Namespace
) -> str:
    rows = "".join(
        f"| {each.record.run_dtype}"
        f"{'' if each.stored == each.record.run_dtype else f' on {each.stored}'} "
        f"| {each.record.dtype} | {each.weights / MB:.0f} MB | {_megabytes(each.peak)} "
        f"| {(each.record.reversal_bytes or 0) / MB:.1f} MB, {each.share:.1%} |\n"
        for each in homes
    )
    return (
        f"GPT-2's 124M shape, random weights, {len(LAYERS)} edited layers, rank "
        f"{options.rank}, ‖Δ‖ = {options.relative} ‖W‖, {options.threads} threads; the "
        f"libraries alone take {_megabytes(floor)}\n\n"
        "| the run in | written in | weights | peak of `apply` | for `revert` |\n"
        f"|---|---|---|---|---|\n{rows}\n"
    )


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / MB:.0f} MB"


def _embedded_tables(folder: Path, options: argparse.Namespace) -> str:
    """Run the default scenario once; what `revert` keeps of it, and cut deltas."""
    output = folder / "run"
    config = read_scenario(SCENARIO, [f"output.directory={json.dumps(str(output))}"])
    run_in_process(flatten(config), config.parties.count, folder / "private")
    torch.set_num_threads(options.threads)
    places = ["--model", EMBEDDED, "--delta", output / FILE]
    home = folder / "home"
    _peak_of(["apply", *places, "--output", home], options.threads)
    record = read_record(home)
    assert record is not None
    sizes = ", ".join(f"{each.relative:.3g}" for each in record.changes)
    rows = "".join(
        f"| {' | '.join(row)} |\n" for row in judge_ranks(config, output / FILE)
    )
    return (
        f"the embedded model, default scenario, seed {config.requests.seed}, "
        f"{config.merge.name}: ‖Δ‖/‖W‖ {sizes}; for `revert` "
        f"{(record.reversal_bytes or 0) / MB:.1f} MB\n\n"
        f"| energy | ranks | {' | '.join(METRICS)} |\n"
        f"|{'---|' * (2 + len(METRICS))}\n{rows}"
    )


def judge_ranks(config: RunConfig, file: Path) -> Iterator[list[str]]:
    """Judge the edited requests with the delta cut to each share of `ENERGIES`.

    Args:
        config: The run's, which says which requests it edited.
        file: The run's delta.
    """
    model = load_named(str(locate_embedded()), config.model.dtype, config.model.device)
    shares = find_shares(config.model, config.requests, config.parties)
    asked = [each for hand in shares.in_round(1) for each in hand.requests]
    delta, _ = load_delta(file)
    spectra = {name: decompose(update) for name, update in delta.items()}
    for energy in ENERGIES:
        ranks = {name: Rank(energy=energy).of(each) for name, each in spectra.items()}
        with applied(_cut(spectra, ranks), model.model):
            metrics = sum_cases(evaluate_requests(model, asked)).means()
        yield [
            "full rank" if energy is None else str(energy),
            ", ".join(map(str, ranks.values())),
            *(f"{metrics[name]:.1f}" for name in METRICS),
        ]


def _cut(spectra: dict[str, Spectrum], ranks: dict[str, int]) -> Delta:
    """Multiply the adapter's matrices, in the precision that an adapter has them."""
    cut = {}
    for name, spectrum in spectra.items():
        up, down = spectrum.factors(ranks[name])
        cut[name] = up.float() @ down.float()
    return cut


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.take_home")
    parser.add_argument("--rank", type=int, default=100, help="of the random delta")
    parser.add_argument(
        "--relative", type=float, default=0.02, help="‖Δ‖ / ‖W‖ of each weight"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws weights and delta")
    parser.add_argument("--threads", type=int, default=2, help="threads for torch")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
