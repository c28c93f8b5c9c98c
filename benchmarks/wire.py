"""What pulling replies takes, and what statistics and updates take on the wire.

    python -m benchmarks.wire [--parties 1000] [--seconds 3] [--width 3072]

*Pulls*: made-up parties reply evenly over some seconds, in an order drawn by lot. The
old way asks for one reply a call, again and again; the new one is the strategy's.

*Sizes*: one layer of keys of some width and outputs of a quarter of it, between the old
form and the new one, with the relative difference of the delta (Frobenius) that the
server solves, or that a party adds to its model.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from flwr.app import Message, RecordDict
from torch import Tensor

from benchmarks import say
from editing.algebra.encodings import Encoding, decode, encode
from editing.algebra.solving import Prior, solve_delta
from sims.runs.in_process import InProcessGrid
from strategies.rounds.exchange import exchange
from strategies.wire.arrays import to_tensors, write_delta
from strategies.wire.deltas import Updates, join_factors
from strategies.wire.messages import Phase

POLL_SECONDS = 0.05
WEIGHT = "weight"
MB = 1e6


class Trickle(InProcessGrid):
    """A grid of parties whose replies come evenly over some seconds."""

    def __init__(self, parties: int, seconds: float) -> None:
        """Draw the order in which they come."""
        super().__init__({}, lambda message, _: message)
        order = torch.randperm(parties, generator=torch.Generator().manual_seed(0))
        self._due = (seconds * order / parties).tolist()
        self._asked: dict[str, Message] = {}
        self._begun, self.calls = time.monotonic(), 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Number the messages."""
        for message in messages:
            number = str(message.metadata.dst_node_id)
            message.metadata.__dict__["_message_id"] = number
            self._asked[number] = message
        self._begun = time.monotonic()
        return list(self._asked)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand over what has come by now."""
        self.calls += 1
        now = time.monotonic() - self._begun
        there = [number for number in message_ids if self._due[int(number)] <= now]
        return [
            Message(RecordDict(), reply_to=self._asked.pop(number)) for number in there
        ]


def one_by_one(grid: Trickle, messages: Sequence[Message]) -> list[int]:
    """Ask for each reply that is missing, one a call, until all are there."""
    waiting = list(grid.push_messages(messages))
    nodes = []
    while waiting:
        found = [reply for each in waiting for reply in grid.pull_messages([each])]
        nodes += [reply.metadata.src_node_id for reply in found]
        waiting = [each for each in waiting if int(each) not in nodes]
        if not found:
            time.sleep(POLL_SECONDS)
    return sorted(nodes)


def in_groups(grid: Trickle, messages: Sequence[Message]) -> list[int]:
    """Pull as the strategy does."""
    return [each.node for each in exchange(grid, messages, 60.0)]


def measure_pulls(parties: int, seconds: float) -> None:
    """Count the calls of both ways, and their own time on the CPU."""
    say("| way | calls | CPU seconds | last reply after |\n|---|--:|--:|--:|")
    ways: list[tuple[str, Callable[[Trickle, Sequence[Message]], list[int]]]]
    ways = [("one a call", one_by_one), ("in groups", in_groups)]
    for name, pull in ways:
        grid = Trickle(parties, seconds)
        kind = Phase.STATISTICS.value
        messages = [
            Message(RecordDict(), dst_node_id=node, message_type=kind)
            for node in range(parties)
        ]
        cpu, begun = time.process_time(), time.monotonic()
        assert pull(grid, messages) == list(range(parties))
        spent, took = time.process_time() - cpu, time.monotonic() - begun
        say(f"| {name} | {grid.calls} | {spent:.2f} | {took:.2f} s |")


def draw(edits: int, width: int) -> tuple[Tensor, Tensor]:
    """Draw keys and residuals as a float32 model gives them."""
    drawn = torch.Generator().manual_seed(edits)
    return (
        torch.randn(edits, width, generator=drawn),
        torch.randn(edits, width // 4, generator=drawn),
    )


def measure_up(edits: int, width: int, prior: Prior) -> None:
    """Compare the encodings of one party's statistics of a layer."""
    keys, residuals = draw(edits, width)
    d_out, whole = width // 4, 8 * width * (width + width // 4)
    reference, size = None, {}
    for encoding in ("factors", "factors-float32", "dense"):
        drawn = torch.Generator().manual_seed(0)
        chosen: Encoding = encoding  # type: ignore[assignment]
        sent = encode(keys, residuals, chosen, drawn)
        size[encoding] = sum(each.nbytes for each in sent.tensors.values())
        delta = solve_delta(decode(sent, width, d_out), prior)
        reference = delta if reference is None else reference
        gap = float((delta - reference).norm() / reference.norm())
        if encoding == "factors":
            continue
        old = whole if encoding == "dense" else size["factors"]
        row(f"{edits} edits up, {encoding}", old, size[encoding], gap)


def measure_down(edits: int, width: int, prior: Prior) -> None:
    """Compare an update that travels whole with its factors."""
    keys, residuals = draw(edits, width)
    sent = encode(keys, residuals, "dense")
    delta = solve_delta(decode(sent, width, width // 4), prior)
    whole = write_delta({WEIGHT: delta}, torch.float32)
    updates = Updates(encoding="factors").add({WEIGHT: delta}, edits)
    arrays = updates.to_arrays()
    received = join_factors(to_tensors(arrays))[WEIGHT]
    assert torch.equal(received, updates.delta[WEIGHT].float())
    gap = float((received.double() - delta).norm() / delta.norm())
    row(f"{edits} edits down, factors", whole.count_bytes(), arrays.count_bytes(), gap)


def row(name: str, old: int, new: int, gap: float) -> None:
    """Write a line of the table of sizes."""
    say(f"| {name} | {old / MB:.2f} | {new / MB:.2f} | {old / new:.1f} | {gap:.1e} |")


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--width", type=int, default=3072)
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure_pulls(options.parties, options.seconds)
    text, _ = draw(2 * options.width, options.width)
    prior = Prior((text.mT @ text).double() / len(text), 1000.0)
    say(f"\nkeys of {options.width}, outputs of {options.width // 4}\n")
    say("| what | old, MB | new, MB | ratio | difference |\n|---|--:|--:|--:|--:|")
    for edits in (10, 100):
        measure_up(edits, options.width, prior)
        measure_down(edits, options.width, prior)


if __name__ == "__main__":
    main()
