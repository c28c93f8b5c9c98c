"""What a run costs as it grows: each case at half its size and whole.

    python -m benchmarks.scale [--cases parties requests ...] [--divide 4]

Runs are in process, on the embedded model, about people whom it does not know: what is
measured is time, not whether edits succeed. Synthetic edits have GPT2-XL's widths, and
random keys and residuals. Times are CPU seconds from the first message on, without
loading. Each size has a process of its own, so that its peak memory is its own. A time
that grows by more than a quarter beyond its work is marked. All sizes may be divided,
for a machine with little time.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from flwr.app import Context, Message, RecordDict

from benchmarks import say
from clients.app import app as client_app
from editing.algebra.encodings import Encoding, encode
from editing.editors.system import System
from server.config import read_scenario
from sims.runs.in_process import InProcessGrid, run_in_process
from sims.world.people import REQUESTS_PER_PERSON, Population, build_requests
from sims.world.people import build_world as build
from strategies.merges.choice import read_merge
from strategies.rounds.aggregation import Aggregation
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer
from strategies.scenario import flatten
from strategies.wire.messages import Phase, write_statistics
from strategies.wire.replies import count_bytes

SCENARIO = Path("sims/scenarios/default.toml")
WORLD_SEED = 7
"""Of another world than the embedded model's."""

D_IN, D_OUT = 6400, 1600
"""GPT2-XL's down-projection."""

LAYER, ROUND = 13, 1
MIB, MB = 2**20, 10**6
SLACK = 1.25
"""How much faster than its work a time may grow before it is marked."""

SHORT = ("prompt", "relation_id", "subject")
EDIT, EVALUATE, SERVER = "edit, s", "evaluate, s", "server, s"
ENCODE = "encode, s"
PEAK, DOWN, UP = "peak, MiB", "down, MB", "up, MB"
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A run on the embedded model.

    Attributes:
        parties: How many there are.
        sizes: Requests of each party by round; the last holds for all later rounds.
        rounds: How many there are.
        steps: `editing.v-num-grad-steps`, for the time that a target takes.
    """

    parties: int
    sizes: tuple[int, ...]
    rounds: int = 1
    steps: int = 25

    def requests_until(self, number: int) -> int:
        """All parties' requests of the rounds so far; in round 0, of the first."""
        rounds = range(max(number, 1))
        last = len(self.sizes) - 1
        return self.parties * sum(self.sizes[min(each, last)] for each in rounds)

    @property
    def work(self) -> Figures:
        """What each figure shall grow with: requests, or messages."""
        edits = self.requests_until(self.rounds)
        evaluated = sum(map(self.requests_until, range(self.rounds + 1)))
        messages = self.parties * self.rounds
        return {
            EDIT: edits,
            EVALUATE: evaluated,
            SERVER: edits,
            DOWN: messages,
            UP: edits,
        }

    @property
    def settings(self) -> list[str]:
        """The settings in which the run differs from the default scenario."""
        sizes = [[size] * self.parties for size in self.sizes]
        same = len(sizes) == 1
        return [
            f"parties.count={self.parties}",
            f"parties.requests-per-round={self.sizes[0] if same else sizes}",
            f"run.rounds={self.rounds}",
            f"editing.v-num-grad-steps={self.steps}",
        ]

    def measure(self) -> Figures:
        """Run it, and return its figures."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            pool = folder / "pool.json"
            pool.write_text(json.dumps(draw_pool(self.requests_until(self.rounds))))
            output = f'output.directory="{folder / "out"}"'
            chosen = [f'requests.source="{pool}"', output, *self.settings]
            flat, post = flatten(read_scenario(SCENARIO, chosen)), Post()
            run_in_process(flat, self.parties, folder / "private", post.answer)
            return post.figures()

    def __str__(self) -> str:
        """How the table calls it."""
        edits = self.requests_until(self.rounds)
        return f"{self.parties} × {edits // self.parties} over {self.rounds}"


class Post:
    """Counts the CPU time and the bytes of the messages to all parties."""

    def __init__(self) -> None:
        """Start without a message."""
        self._started: float | None = None
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._down = self._up = 0

    def answer(self, message: Message, context: Context) -> Message:
        """Answer as the client does."""
        start = time.process_time()
        self._started = self._started or start
        reply = client_app(message, context)
        assert not reply.has_error()
        self._spent[message.metadata.message_type] += time.process_time() - start
        self._down += count_bytes(message)
        self._up += count_bytes(reply)
        return reply

    def figures(self) -> Figures:
        """What was counted until now."""
        assert self._started is not None
        whole = time.process_time() - self._started
        evaluate = self._spent[Phase.EVALUATE.value]
        parties = sum(self._spent.values())
        return {
            EDIT: parties - evaluate,
            EVALUATE: evaluate,
            SERVER: whole - parties,
            PEAK: peak(),
            DOWN: self._down / MB,
            UP: self._up / MB,
        }


@dataclass(frozen=True)
class Synthetic:
    """Random edits of one layer, encoded, sent, summed and solved.

    Attributes:
        parties: How many there are.
        edits: Of each party.
        encoding: How their statistics travel.
    """

    parties: int
    edits: int
    encoding: Encoding

    @property
    def work(self) -> Figures:
        """What each figure shall grow with: multiplications, or numbers sent."""
        n, rows = self.edits, self.parties * self.edits
        solve = D_IN**3 / 6 + D_IN**2 * D_OUT
        if self.encoding == "dense":
            # A party's sums are checked by a factorisation of its gram.
            sums, sent = self.parties * D_IN**3 / 6, self.parties
            return {ENCODE: rows, SERVER: sums + solve, UP: sent}
        products = rows * D_IN * (D_IN + D_OUT)
        return {ENCODE: rows * n, SERVER: products + solve, UP: rows}

    def measure(self) -> Figures:
        """Encode, send, sum and solve, and return the figures."""
        torch.set_num_threads(os.cpu_count() or 1)
        InProcessGrid({}, client_app)  # gives messages the run that they belong to
        memory = Memory(torch.eye(D_IN, dtype=torch.float64), 1e4, 0.0)
        layers = {LAYER: EditedLayer("w", D_OUT, D_IN, memory)}
        aggregation, clock = Aggregation(ROUND, [LAYER], layers), Clock()
        sent = 0
        for party in range(self.parties):
            reply = self._reply(party, clock)
            sent += count_bytes(reply)
            with clock.runs(SERVER):
                aggregation.add(aggregation.decode(reply))
        with clock.runs(SERVER):
            merge = read_merge("collabedit")
            delta = merge(aggregation.statistics(LAYER), System(memory.prior()))
        assert aggregation.pooled(LAYER).count == self.parties * self.edits
        assert bool(delta.isfinite().all())
        return {**clock.spent, PEAK: peak(), UP: sent / MB}

    def _reply(self, party: int, clock: "Clock") -> Message:
        """Draw a party's keys and residuals, and encode them."""
        generator = torch.Generator().manual_seed(party)
        keys = torch.randn(self.edits, D_IN, generator=generator)
        residuals = torch.randn(self.edits, D_OUT, generator=generator)
        with clock.runs(ENCODE):
            encoded = encode(keys, residuals, self.encoding, generator)
        asked = Message(
            RecordDict(), dst_node_id=party + 1, message_type=Phase.STATISTICS.value
        )
        return Message(write_statistics({LAYER: encoded}, ROUND), reply_to=asked)

    def __str__(self) -> str:
        """How the table calls it."""
        return f"{self.parties} × {self.edits}"


class Clock:
    """CPU seconds by what they were spent on."""

    def __init__(self) -> None:
        """Start without any."""
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def runs(self, what: str) -> Iterator[None]:
        """Count the seconds within."""
        start = time.process_time()
        yield
        self.spent[what] += time.process_time() - start


def peak() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def draw_pool(count: int) -> list[dict[str, object]]:
    """Draw requests about so many people, in the flat form."""
    population = Population(editable=count, given_names=60, last_names=120)
    found = build_requests(build(WORLD_SEED, population))[::REQUESTS_PER_PERSON]
    return [
        {
            **{name: record["requested_rewrite"][name] for name in SHORT},
            "target_new": record["requested_rewrite"]["target_new"]["str"],
            "target_true": record["requested_rewrite"]["target_true"]["str"],
            "case_id": record["case_id"],
        }
        for record in found
    ]


CASES: Mapping[str, Callable[[int], Run | Synthetic]] = {
    "parties": lambda part: Run(1000 // part, (1,), steps=3),
    "requests": lambda part: Run(1, (640 // part,)),
    "rounds": lambda part: Run(1, (4,) * (10 // part) + (3,), 50 // part),
    "factors": lambda part: Synthetic(100 // part, 100, "factors"),
    "rows": lambda part: Synthetic(10, 1000 // part, "factors"),
    "dense": lambda part: Synthetic(1, 10_000 // part, "dense"),
}
"""Each case, divided by a number."""


def main() -> None:
    """Measure the cases, and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--divide", type=int, default=1, help="of all sizes")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one is not None:
        logging.getLogger("flwr").setLevel(logging.WARNING)
        say(json.dumps(CASES[chosen.one](chosen.divide).measure()))
        return
    heads: Sequence[str] = ()
    parts = (2 * chosen.divide, chosen.divide)
    for name in chosen.cases:
        sizes = [CASES[name](part) for part in parts]
        found = [in_process_of_its_own(name, part) for part in parts]
        if list(found[0]) != heads:
            heads = list(found[0])
            say(f"\n| case | parties × edits | {' | '.join(heads)} |")
            say("|---|---|" + "--:|" * len(heads))
        for row in rows(name, sizes, found, heads):
            say(row)


def rows(
    name: str,
    sizes: Sequence[Run | Synthetic],
    found: Sequence[Figures],
    heads: Sequence[str],
) -> Iterator[str]:
    """Write the figures of both sizes, their growth, and that of their work."""
    for size, figures in zip(sizes, found, strict=True):
        yield line(f"{name} | {size}", (f"{figures[head]:.1f}" for head in heads))
    small, large = (size.work for size in sizes)
    growth = {head: found[1][head] / max(found[0][head], 1e-9) for head in heads}
    wanted = {head: large[head] / small[head] for head in small}
    over = {each for each in wanted if growth[each] > SLACK * wanted[each]}
    marks = {head: " **over**" if head in over else "" for head in heads}
    yield line(" | grows", (f"{growth[head]:.2f}{marks[head]}" for head in heads))
    work = (f"{wanted[head]:.2f}" if head in wanted else "" for head in heads)
    yield line(" | its work", work)


def line(start: str, cells: Iterator[str]) -> str:
    """Write a row of the table."""
    return f"| {start} | {' | '.join(cells)} |"


def in_process_of_its_own(name: str, part: int) -> Figures:
    """Measure one size of a case, whose peak is then that of nothing else."""
    command = [sys.executable, "-m", "benchmarks.scale"]
    command += ["--one", name, "--divide", str(part)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
