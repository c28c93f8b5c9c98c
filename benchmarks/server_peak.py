"""The server's peak memory in whole runs, against `python -m sims estimate`.

    python -m benchmarks.server_peak [--width 4096] [--layers 3] [--tolerance 0.1]

The server's app runs as in deployment, in a process of its own: it loads a model of
random weights in the shape of GPT-2 with keys of that width, maps covariances in the
published form, merges, writes the report. Parties are made up: the moment a reply is
pulled, it holds statistics of random keys and residuals. The figure is the largest
resident memory of the process, mapped files included, and the estimate is
`sims.sizes.estimate.Estimate.server_memory` of the same shape, or
`server_memory_each` for merges that need each party. "Before" is what the server held
when grams, float64 covariances and each party's sums were kept:
``8 L (3 d_in² + 2 d_out d_in)`` standing, five systems to solve, and for merges that
need each party all their sums and deltas.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from flwr.app import Message, RecordDict

from benchmarks import say
from editing.algebra.encodings import EncodedStatistics
from editing.algebra.second_moments import write_triangle
from server.app import run
from server.config import RunConfig
from server.monitoring.stream import EventStream
from sims.runs.in_process import InProcessGrid
from sims.sizes.estimate import PROGRAM_BYTES, Estimate, EstimateOrder
from sims.sizes.shapes import ModelShape, read_shape
from strategies.wire.handshakes import Handshake, write_handshake
from strategies.wire.messages import (
    PROTOCOL_VERSION,
    Job,
    Phase,
    TargetsReply,
    read_job,
    write_contribution,
    write_statistics,
)
from strategies.wire.metrics import EvaluationSums, write_evaluation

FIRST_NODE = 100
TOKENS = 1000
GB = 1e9


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        merge: The method.
        parties: Number of parties.
        requests: Edits of each in a round.
        rounds: Number of rounds.
        encoding: How statistics travel.
    """

    merge: str
    parties: int
    requests: int
    rounds: int = 1
    encoding: str = "factors"

    def order(self) -> EstimateOrder:
        """Describe the run to the estimate."""
        return EstimateOrder.model_validate(
            {name: each for name, each in asdict(self).items() if name != "merge"}
        )


TRIALS = (
    Trial("collabedit", 10, 10),
    Trial("collabedit", 20, 100),
    Trial("collabedit", 4, 100, encoding="dense"),
    Trial("collabedit", 10, 10, rounds=2),
    Trial("ties", 20, 10),
    Trial("simple-average", 20, 10),
)


class MadeUpParties(InProcessGrid):
    """A grid that makes each reply the moment that it is pulled."""

    def __init__(self, trial: Trial, shape: ModelShape) -> None:
        """Have all parties send statistics of as many edits."""
        super().__init__({}, lambda message, _: message)
        self._trial, self._shape = trial, shape
        self._asked: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """One node a party."""
        return [FIRST_NODE + party for party in range(self._trial.parties)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Number the messages."""
        sent = []
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            number = f"{node} {kind} {message.metadata.group_id} {id(message)}"
            message.metadata.__dict__["_message_id"] = number
            self._asked[number] = message
            sent.append(number)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Make the replies that are asked for."""
        return [self._reply(self._asked.pop(number)) for number in message_ids]

    def _reply(self, message: Message) -> Message:
        kind = Phase(message.metadata.message_type)
        if kind == Phase.FORGET:
            return Message(write_evaluation(EvaluationSums()), reply_to=message)
        job, node = read_job(message.content), message.metadata.dst_node_id
        if kind == Phase.DESCRIBE:
            made = Handshake(
                protocol=PROTOCOL_VERSION,
                identity=job.identity,
                party=node - FIRST_NODE,
            )
            return Message(write_handshake(made), reply_to=message)
        return Message(self._contribute(kind, job, node), reply_to=message)

    def _contribute(self, kind: Phase, job: Job, node: int) -> RecordDict:
        if kind == Phase.EVALUATE:
            return write_evaluation(EvaluationSums())
        drawn = torch.Generator().manual_seed(1000 * job.round + node)
        parts = {layer: self._draw(drawn) for layer in job.layers}
        if kind == Phase.TARGETS:
            reply = TargetsReply(requests=self._trial.requests)
            return write_contribution(reply, parts, job.round)
        return write_statistics(parts, job.round)

    def _draw(self, drawn: torch.Generator) -> EncodedStatistics:
        count, shape = self._trial.requests, self._shape
        keys, residuals = (
            torch.randn(count, width, generator=drawn, dtype=torch.float64)
            for width in (shape.d_in, shape.d_out)
        )
        if self._trial.encoding == "factors":
            tensors = {"keys": keys, "residuals": residuals}
        else:
            half = write_triangle(keys.mT @ keys)
            tensors = {"gram": half, "cross": residuals.mT @ keys}
        return EncodedStatistics(self._trial.encoding, tensors, count)


def draw_model(folder: Path, width: int, layers: int) -> None:
    """Write a model with keys of a width, and covariances in the published form."""
    from transformers import GPT2Config

    from benchmarks import shapes
    from benchmarks.client_process import make_model

    edited = tuple(range(1, 1 + layers))
    config = GPT2Config(
        n_embd=width // 4, n_layer=layers + 2, n_head=8, vocab_size=4096
    )
    shapes.SHAPES["narrow"] = shapes.Shape(config, edited, 5)
    make_model(str(folder), "narrow", "float32", 4)
    chosen = {"layers": edited, "mom2_update_weight": 1000.0}
    (folder / "hyperparameters.json").write_text(json.dumps(chosen))
    (folder / "context_templates.json").write_text('["{}"]')
    rows = np.random.default_rng(0).normal(size=(32, width)).astype(np.float32)
    total = rows.T @ rows
    total.flat[:: width + 1] += TOKENS
    for layer in edited:
        arrays = {"mom2.mom2": total, "mom2.count": np.array(TOKENS)}
        np.savez(covariance_of(folder, layer), **arrays)


def covariance_of(folder: Path, layer: int) -> Path:
    """Return the file of a layer's covariance."""
    return folder / f"covariance.{layer}.npz"


def measure(trial: Trial, folder: Path) -> None:
    """Run the server, and print its peak."""
    shape = read_shape(str(folder))
    covariance = [str(covariance_of(folder, layer)) for layer in shape.layers]
    tables = {
        "model": {"path": str(folder)},
        "requests": {"source": str(folder / "requests.json")},
        "parties": {
            "count": trial.parties,
            "requests_per_round": trial.requests,
        },
        "prior": {"covariance": covariance},
        "merge": {"name": trial.merge},
        "run": {"rounds": trial.rounds, "encoding": trial.encoding},
        "output": {"directory": str(folder / f"results-{id(trial)}")},
    }
    config = RunConfig.model_validate(tables)
    run(MadeUpParties(trial, shape), config, EventStream())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(f"{json.dumps({'peak': peak})}\n")


def estimate(trial: Trial, shape: ModelShape) -> int:
    """Return what the estimate says of a run."""
    found = Estimate(shape, trial.order())
    each = trial.merge != "collabedit"
    return found.server_memory_each if each else found.server_memory


def before(trial: Trial, shape: ModelShape) -> int:
    """Compute what the server held before, see the text of this module."""
    square, matrix = 8 * shape.d_in**2, 8 * shape.d_out * shape.d_in
    standing = len(shape.layers) * (3 * square + 2.5 * matrix)
    solving = 5 * square + 3 * matrix
    if trial.merge != "collabedit":
        solving += (trial.parties - 1) * (square + 2 * matrix)
    return round(PROGRAM_BYTES + 4 * shape.parameters + standing + solving)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each run in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--draw", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.draw:
        draw_model(Path(options.draw), options.width, options.layers)
        return 0
    if options.one:
        folder, text = options.one
        measure(Trial(**json.loads(text)), Path(folder))
        return 0
    with tempfile.TemporaryDirectory(prefix="ce-") as scratch:
        return compare(Path(scratch), options)


def compare(folder: Path, options: argparse.Namespace) -> int:
    """Write the table; the exit code is 1 if an estimate is further off."""
    shaped = ["--width", str(options.width), "--layers", str(options.layers)]
    start([*shaped, "--draw", str(folder)])
    shape, worst = read_shape(str(folder)), 0.0
    say(f"{options.layers} layers of {shape.d_out} x {shape.d_in}\n")
    say("| merge | parties | edits | rounds | sent | before | peak | estimate | off |")
    say("|---|--:|--:|--:|---|--:|--:|--:|--:|")
    for trial in TRIALS:
        said = start(["--one", str(folder), json.dumps(asdict(trial))])
        peak, guess = json.loads(said.splitlines()[-1])["peak"], estimate(trial, shape)
        off = guess / peak - 1
        worst = max(worst, abs(off))
        row = [trial.merge, trial.parties, trial.requests, trial.rounds, trial.encoding]
        row += [f"{size / GB:.2f} GB" for size in (before(trial, shape), peak, guess)]
        say(f"| {' | '.join(map(str, row))} | {off:+.1%} |")
    return int(worst > options.tolerance)


def start(words: Sequence[str]) -> str:
    """Run this program again, in a process whose peak is its own."""
    command = [sys.executable, "-m", "benchmarks.server_peak", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
