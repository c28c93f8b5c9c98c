"""What a round under masks costs, next to a plain one.

    python -m benchmarks.secure_sums [--parties 10] [--requests 10 100] [--threads 2]

One layer of synthetic keys and residuals, at the widths of the embedded model and of
GPT2-XL. A party's seconds are those of all its answers of a round, and the server's
are until it has the pooled gram and cross; bytes are what a party sends. Files are
written as by a node.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch

from benchmarks import say
from clients.secure.party import SummingParty
from clients.secure.state import SecretFiles
from editing.algebra.encodings import decode as decode_statistics
from editing.algebra.encodings import encode
from editing.algebra.statistics import LayerStatistics, NormBounds, check_norms, pool
from strategies.secure.fixed_point import decode
from strategies.secure.masks import Masking
from strategies.secure.opening import open_sum
from strategies.secure.records import (
    MaskedRequest,
    MembersRequest,
    Session,
    UnmaskRequest,
    threshold_of,
    write_keys,
    write_shares,
    write_unmask,
)
from strategies.secure.vectors import LayerShape, Pairs, pack_layer, unpack_layer

SHAPES = {"embedded": (1536, 128), "GPT2-XL": (6400, 1600)}
"""``d_in`` and ``d_out``."""

BOUNDS = NormBounds(100.0, 1000.0)
LAYER, SUM = 0, "targets"
PLAIN_EXCHANGES, SECURE_EXCHANGES = 1, 4
Result = TypeVar("Result")


@dataclass
class Cost:
    """What one way of summing takes.

    Attributes:
        party: Seconds of one party, mean.
        server: Seconds of the server.
        bytes: What one party sends.
        exchanges: How often messages go out and come back.
    """

    party: float = 0.0
    server: float = 0.0
    bytes: int = 0
    exchanges: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all cases, and write a table."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    say("| widths | requests | form | | party s | server s | MB | exchanges | gram |")
    say("|---|---|---|---|--:|--:|--:|--:|--:|")
    for name, (d_in, d_out) in SHAPES.items():
        for requests in options.requests:
            measure(name, LayerShape(LAYER, d_in, d_out), options.parties, requests)
    return 0


def measure(name: str, shape: LayerShape, parties: int, requests: int) -> None:
    """Sum one layer both ways, and write the two lines."""
    hands = [draw(shape, requests, party) for party in range(parties)]
    form = shape.choose_form(float(parties * requests), "factors", BOUNDS)
    cost, plain = sum_plainly(hands, shape)
    masked, secure = sum_masked(hands, shape, requests)
    reference = plain.gram
    gap = float((secure.gram - reference).norm() / reference.norm())
    lead = f"| {name} | {parties} × {requests} | {form} "
    for way, each, error in (("plain", cost, ""), ("secure", masked, f"{gap:.0e}")):
        say(
            f"{lead}| {way} | {each.party:.3f} | {each.server:.2f} "
            f"| {each.bytes / 1e6:.2f} | {each.exchanges} | {error} |"
        )


def draw(shape: LayerShape, requests: int, party: int) -> Pairs:
    """Draw a party's keys and residuals."""
    draw = torch.Generator().manual_seed(party)
    width = shape.d_in + shape.d_out
    both = torch.randn(requests, width, dtype=torch.float64, generator=draw)
    return both[:, : shape.d_in], both[:, shape.d_in :]


def sum_plainly(
    hands: Sequence[Pairs], shape: LayerShape
) -> tuple[Cost, LayerStatistics]:
    """Encode as factors, and add up."""
    cost, parts = Cost(exchanges=PLAIN_EXCHANGES), []
    for keys, residuals in hands:
        sent, seconds = timed(lambda k=keys, r=residuals: encode(k, r, "factors"))
        cost.party += seconds / len(hands)
        cost.bytes = sum(each.nbytes for each in sent.tensors.values())
        part, seconds = timed(
            lambda s=sent: decode_statistics(s, shape.d_in, shape.d_out)
        )
        cost.server += seconds
        parts.append(part)
    total, seconds = timed(lambda: formed(pool(parts)))
    cost.server += seconds
    return cost, total


def formed(statistics: LayerStatistics) -> LayerStatistics:
    """Return statistics with gram and cross, whichever form they have."""
    return LayerStatistics.of_sums(statistics.gram, statistics.cross, statistics.count)


def sum_masked(
    hands: Sequence[Pairs], shape: LayerShape, requests: int
) -> tuple[Cost, LayerStatistics]:
    """Exchange keys and shares, add masked numbers up, and unmask the sum."""
    numbers = tuple(range(len(hands)))
    cost = Cost(exchanges=SECURE_EXCHANGES)
    edits = float(requests * len(hands))
    form = shape.choose_form(edits, "factors", BOUNDS)
    session = Session(run="5a" * 16, label="run", round=1, attempt=0, sums=(SUM,))
    request = MaskedRequest(
        session=session,
        sum=SUM,
        members=numbers,
        capacities=(requests,) * len(hands),
        forms={LAYER: form},
        bits=shape.bits(form, edits, BOUNDS),
    )
    with TemporaryDirectory() as folder:
        table = [
            SummingParty(n, SecretFiles(Path(folder) / str(n), n), bytes(32))
            for n in numbers
        ]

        def ask(answer: Callable[[SummingParty], Result]) -> list[Result]:
            found = [timed(lambda p=party: answer(p)) for party in table]
            cost.party += sum(seconds for _, seconds in found) / len(hands)
            return [each for each, _ in found]

        keys = ask(lambda party: party.open(session))
        asking = MembersRequest(session=session, members=tuple(keys))
        shares = ask(lambda party: party.share(asking))
        totals = {n: np.zeros(k, np.uint64) for n, k in _words(request, shape).items()}
        for party, pairs in zip(table, hands, strict=True):
            words, seconds = timed(
                lambda p=party, own=pairs: p.mask(
                    request, pack_layer(own, shape, request, p.party, bytes(32))
                )
            )
            cost.party += seconds / len(hands)
            cost.bytes = sum(each.nbytes for each in words.values())
            _, seconds = timed(lambda w=words: _add(totals, w))
            cost.server += seconds
        answers = ask(lambda party: party.unmask(*_unmasking(request, shares, party)))
        cost.bytes += sum(
            record.count_bytes()
            for content in (
                write_keys(keys[0]),
                write_shares(shares[0]),
                write_unmask(answers[0]),
            )
            for record in content.values()
        )
    count = requests * len(hands)

    def read() -> LayerStatistics:
        open_sum(
            totals,
            Masking(session.name(SUM), numbers, request.digest),
            numbers,
            dict(enumerate(keys)),
            dict(enumerate(answers)),
            threshold_of(len(hands)),
        )
        bits = request.bits
        vectors = {n: decode(w, bits.get(n), len(hands)) for n, w in totals.items()}
        found = unpack_layer(vectors, shape, form, request.rows, count)
        check_norms(found, BOUNDS)
        return formed(found)

    total, seconds = timed(read)
    cost.server += seconds
    return cost, total


def _words(request: MaskedRequest, shape: LayerShape) -> dict[str, int]:
    lengths = shape.lengths(request.forms[LAYER], request.rows)
    return {n: k if n in request.bits else 2 * k for n, k in lengths.items()}


def _add(totals: dict[str, np.ndarray], words: dict[str, np.ndarray]) -> None:
    for name, each in words.items():
        totals[name] += each


def _unmasking(
    request: MaskedRequest,
    shares: Sequence[dict[str, dict[int, bytes]]],
    party: SummingParty,
) -> tuple[UnmaskRequest, dict[int, bytes]]:
    """Write the question for unmasking to one party."""
    own, members = party.party, request.members
    senders = tuple(each for each in members if each != own)
    asking = UnmaskRequest(
        session=request.session, sum=SUM, survivors=members, senders=senders
    )
    return asking, {sender: shares[sender][SUM][own] for sender in senders}


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something, and say how many seconds it took."""
    started = time.perf_counter()
    done = work()
    return done, time.perf_counter() - started


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parties", type=int, default=10)
    parser.add_argument("--requests", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
