"""How well a server that holds the model tells whether a guessed subject was edited.

On the embedded model, draws 0, 1 and 2 of its requests, it looks at the first edited
layer of the statistics of one party, in both encodings, at the sum over all parties,
and at the merged update. A guess is a subject with the words before it. Run it with

    python -m benchmarks.guessing [--parties N] [--requests N] [--threads N]
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clients.own_requests import find_shares
from editing.algebra.encodings import Encoding, decode, encode
from editing.algebra.statistics import pool
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone, read_pairs
from editing.memit.targets import compute_targets
from editing.requests.edit_request import EditRequest, read_requests
from editing.sources.embedded import resolve_model
from server.config import RunConfig, read_scenario
from server.preparation import Preparation, prepare
from sims.console import hush_libraries
from tests.guessing import (
    Guess,
    accuracy,
    are_among,
    distinct,
    share_outside,
    span_of_gram,
    span_of_update,
)

SCENARIO = Path("sims/scenarios/default.toml")
DRAWS = (0, 1, 2)
SIGHTS = ("one party, factors", "one party, dense", "sum over parties", "update")


@dataclass(frozen=True)
class Tested:
    """What became of the guesses at one sight of one draw.

    Attributes:
        edited: Shares of right guesses that lie outside of the span.
        words: Likewise, of subjects that were edited behind other words.
        others: Likewise, of subjects that nobody asked for.
        right: How often the server is right, if half of its guesses were edited.
    """

    edited: Tensor
    words: Tensor
    others: Tensor
    right: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Test all guesses at every sight, and write a table."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    hush_libraries()
    found: dict[str, list[Tested]] = {sight: [] for sight in SIGHTS}
    for seed in DRAWS:
        for sight, tested in attack_draw(seed, options.parties, options.requests):
            found[sight].append(tested)
    sys.stdout.write(_table(found, options))
    return 0


def attack_draw(seed: int, parties: int, requests: int) -> Iterator[tuple[str, Tested]]:
    """Test all guesses on the requests of one draw, at every sight."""
    settings = [f"requests.seed={seed}", f"parties.count={parties}"]
    settings += [f"parties.requests-per-round={requests}"]
    config = read_scenario(SCENARIO, settings)
    prepared = prepare(config)
    layer = prepared.plan.parameters.layers[0]
    shares = find_shares(config.model, config.requests, config.parties)
    hands = [list(hand.requests) for hand in shares.in_round(1)]
    guesses = distinct(_pool_of(config))
    model, templates = prepared.model, prepared.plan.templates
    keys = extract_keys(model, [*guesses.values()], templates, [layer])[layer]
    for sight, asked, span in spans(prepared, hands, layer):
        outside = share_outside(keys, span)
        yield sight, _judge([*guesses], outside, asked)


def spans(
    prepared: Preparation, hands: Sequence[list[EditRequest]], layer: int
) -> Iterator[tuple[str, list[EditRequest], Float[Tensor, "d_in rank"]]]:
    """What each sight shows, and the requests that it is of.

    Args:
        prepared: Model and plan.
        hands: The parties' requests.
        layer: The first that is edited, whose keys are those of the unedited model.
    """
    asked = [request for hand in hands for request in hand]
    first = _statistics(prepared, hands[:1], layer, "factors")
    yield SIGHTS[0], hands[0], span_of_gram(first)
    dense = _statistics(prepared, hands[:1], layer, "dense")
    yield SIGHTS[1], hands[0], span_of_gram(dense)
    total = _statistics(prepared, hands, layer, "factors")
    yield SIGHTS[2], asked, span_of_gram(total)
    priors = {
        number: prepared.prior_weight * moment.double()
        for number, moment in prepared.covariance.moments.items()
    }
    update = edit_alone(prepared.model, asked, prepared.plan, priors)
    sent = update[prepared.model.weight_name(layer)].float()
    rank = len(distinct(asked))
    yield SIGHTS[3], asked, span_of_update(sent, priors[layer], rank)


def _statistics(
    prepared: Preparation,
    hands: Sequence[list[EditRequest]],
    layer: int,
    encoding: Encoding,
) -> Float[Tensor, "d_in d_in"]:
    """The sum of what parties send of a layer, as the server decodes it."""
    model, plan = prepared.model, prepared.plan
    d_out, d_in = model.widths(layer)
    received = []
    for hand in hands:
        targets = compute_targets(model, hand, plan.templates, plan.parameters)
        pairs = read_pairs(model, hand, targets, plan, [layer])[layer]
        sent = encode(pairs.keys, pairs.residuals, encoding)
        received.append(decode(sent, d_in, d_out))
    return pool(received).gram


def _judge(
    guesses: Sequence[Guess],
    outside: Float[Tensor, " n"],
    asked: Sequence[EditRequest],
) -> Tested:
    edited = are_among(guesses, asked)
    subjects = {request.subject for request in asked}
    known: Bool[Tensor, " n"] = torch.tensor([g.subject in subjects for g in guesses])
    return Tested(
        outside[edited],
        outside[known & ~edited],
        outside[~known],
        accuracy(outside, edited),
    )


def _pool_of(config: RunConfig) -> list[EditRequest]:
    """All requests that the parties' ones are drawn from."""
    return read_requests(Path(resolve_model(config.model.path)) / "requests.json")


def _table(found: dict[str, list[Tested]], options: argparse.Namespace) -> str:
    rows = "".join(
        f"| {sight} | {_count(seen, 'edited')} | {_extreme(seen, 'edited', max)} "
        f"| {_extreme(seen, 'words', min)}–{_extreme(seen, 'words', max)} "
        f"| {_extreme(seen, 'others', min)} "
        f"| {min(each.right for each in seen):.1%} |\n"
        for sight, seen in found.items()
    )
    draws = ", ".join(map(str, DRAWS))
    return (
        f"the embedded model, {options.parties} parties of {options.requests} "
        f"requests, draws {draws}: share of a key outside of what is seen\n\n"
        "| what the server sees | right guesses | of them, at most | subject behind "
        "other words | nobody's subject, at least | right |\n"
        f"|---|--:|--:|--:|--:|--:|\n{rows}"
    )


def _count(draws: Sequence[Tested], kind: str) -> str:
    return "/".join(str(len(getattr(each, kind))) for each in draws)


def _extreme(
    draws: Sequence[Tested], kind: str, choose: Callable[[Iterable[float]], float]
) -> str:
    found = torch.cat([getattr(each, kind) for each in draws])
    return f"{choose(found.tolist()):.1g}" if len(found) else "none"


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guessing")
    parser.add_argument("--parties", type=int, default=10, help="how many there are")
    parser.add_argument("--requests", type=int, default=10, help="of each party")
    parser.add_argument("--threads", type=int, default=2, help="threads for torch")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
