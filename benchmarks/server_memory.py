"""The server's peak memory with few parties and with many.

    python -m benchmarks.server_memory [--parties 2 8 32] [--edits 100]

Statistics of one layer in the shape of GPT2-XL are made the moment they are asked for,
as Flower's grid does when a reply is pulled, and go through the strategy's exchange,
checks and sums. Each number of parties has a process of its own. The figure is its
largest resident memory, and what it is above that of the smallest number of parties.
"Last first" has the first party reply after all others, so that these wait on disk.
"""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterable
from typing import get_args

import torch
from flwr.app import Message, RecordDict

from benchmarks import say
from editing.algebra.encodings import EncodedStatistics, Encoding
from editing.algebra.second_moments import write_triangle
from editing.algebra.statistics import LayerStatistics
from sims.runs.in_process import InProcessGrid
from strategies.rounds.aggregation import Aggregation
from strategies.rounds.exchange import exchange
from strategies.rounds.memory import Memory
from strategies.rounds.state import EditedLayer
from strategies.wire.messages import Phase, write_statistics

D_IN, D_OUT = 6400, 1600
"""GPT2-XL's down-projection."""

LAYER, ROUND = 13, 1
MIB = 2**20
FIRST_NODE = 100
ORDERS = ("in order", "last first")


class LazyGrid(InProcessGrid):
    """A grid that makes each reply the moment that it is pulled."""

    def __init__(self, edits: int, encoding: Encoding, order: str) -> None:
        """Have all parties send statistics of so many edits."""
        super().__init__({}, lambda message, _: message)
        self._asked: dict[str, Message] = {}
        self._edits, self._encoding = edits, encoding
        self._waits = order == ORDERS[1]
        self.sent = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Number the messages."""
        for message in messages:
            number = f"message {len(self._asked)}"
            message.metadata.__dict__["_message_id"] = number
            self._asked[number] = message
        return list(self._asked)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Make the replies that are asked for."""
        return [
            self._make(self._asked.pop(number))
            for number in message_ids
            if len(self._asked) == 1 or not (self._waits and number == "message 0")
        ]

    def _make(self, message: Message) -> Message:
        generator = torch.Generator().manual_seed(message.metadata.dst_node_id)
        keys = torch.randn(self._edits, D_IN, generator=generator, dtype=torch.float64)
        values = torch.randn(
            self._edits, D_OUT, generator=generator, dtype=torch.float64
        )
        tensors = {"keys": keys, "residuals": values}
        if self._encoding == "dense":
            part = LayerStatistics.of_pairs(keys, values)
            tensors = {"gram": write_triangle(part.gram), "cross": part.cross}
        if self._encoding == "factors-float32":
            tensors = {name: rows.float() for name, rows in tensors.items()}
        form = "dense" if self._encoding == "dense" else "factors"
        encoded = EncodedStatistics(form, tensors, self._edits)
        content = write_statistics({LAYER: encoded}, ROUND)
        self.sent = content.array_records["statistics"].count_bytes()
        return Message(content, reply_to=message)


def measure(parties: int, edits: int, encoding: Encoding, order: str) -> None:
    """Sum the statistics of some parties, and print the peak and what one sent."""
    torch.set_num_threads(1)
    prior = torch.eye(D_IN, dtype=torch.float64)
    memory = Memory(prior, 1.0, 0.0)
    aggregation = Aggregation(
        ROUND, [LAYER], {LAYER: EditedLayer("w", D_OUT, D_IN, memory)}
    )
    grid = LazyGrid(edits, encoding, order)
    messages = [
        Message(
            RecordDict(),
            dst_node_id=FIRST_NODE + party,
            message_type=Phase.STATISTICS.value,
        )
        for party in range(parties)
    ]
    for arrival in exchange(grid, messages, timeout=3600.0):
        assert arrival.reply is not None
        aggregation.add(aggregation.decode(arrival.reply))
    assert aggregation.pooled(LAYER).count == parties * edits
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    say(json.dumps({"peak": peak, "sent": grid.sent}))


def main() -> None:
    """Measure each number of parties in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one is not None:
        encoding, order = chosen.one
        measure(chosen.parties[0], chosen.edits, encoding, order)
        return
    one = 8 * D_IN * (D_IN + D_OUT) / MIB
    say(f"{chosen.edits} edits a party; one party's statistics are {one:.0f} MiB\n")
    say("| encoding | replies come | parties | one sends, MiB | peak, MiB | more |")
    say("|---|---|--:|--:|--:|--:|")
    for encoding in get_args(Encoding):
        for order in ORDERS:
            least = None
            for parties in chosen.parties:
                found = in_process_of_its_own(parties, chosen.edits, encoding, order)
                least = found["peak"] if least is None else least
                cells = [found["sent"], found["peak"], found["peak"] - least]
                numbers = " | ".join(f"{cell / MIB:.1f}" for cell in cells)
                say(f"| {encoding} | {order} | {parties} | {numbers} |")


def in_process_of_its_own(
    parties: int, edits: int, encoding: str, order: str
) -> dict[str, int]:
    """Run `measure`, whose peak is then that of nothing else."""
    command = [sys.executable, "-m", "benchmarks.server_memory"]
    command += ["--parties", str(parties), "--edits", str(edits)]
    command += ["--one", encoding, order]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
