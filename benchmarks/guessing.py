"""How well an observer tells whether a guessed subject was edited.

Two tables on the embedded model, of the first edited layer. The first is of runs that
ask for draws 0, 1 and 2 of its requests: one party, the sum over parties, the update.
The second goes beyond as many edits as the layer is wide, with made-up subjects, of
which half were edited. `python -m sims audit` uses the same tests. Run it with

    python -m benchmarks.guessing [--parties N] [--requests N] [--threads N]
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clients.own_requests import find_shares
from editing.algebra.encodings import decode, encode
from editing.algebra.statistics import LayerStatistics
from editing.memit.keys import extract_keys
from editing.memit.pipeline import edit_alone, read_pairs
from editing.memit.targets import compute_targets
from editing.requests.edit_request import EditRequest, read_requests
from editing.sources.embedded import resolve_model
from server.config import RunConfig, read_scenario
from server.kept_statistics import KeptRound
from server.preparation import Preparation, prepare
from server.report.tables import TableText, markdown_table
from sims.audit.guesses import Guess, are_among, distinct
from sims.audit.observers import Seen, see_statistics, see_update
from sims.audit.scores import (
    Directions,
    Success,
    measure,
    score_leverage,
    score_span,
)
from sims.console import hush_libraries

SCENARIO = Path("sims/scenarios/default.toml")
DRAWS = (0, 1, 2)
SHARES = (0.5, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0)
"""Edits, as multiples of the layer's width."""

HEADS = ["right guesses", "recall", "false alarms", "AUC"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Test all guesses, and write both tables."""
    options = _read_options(arguments)
    torch.set_num_threads(options.threads)
    hush_libraries()
    found = [row for seed in DRAWS for row in attack_draw(seed, options)]
    table = TableText(["draw", "observer", "test", *HEADS], found, 3)
    sys.stdout.write(markdown_table(table) + "\n\n")
    config = read_scenario(SCENARIO)
    beyond = [list(row) for row in attack_many(config, prepare(config))]
    table = TableText(["edits", "of the width", "test", *HEADS], beyond, 3)
    sys.stdout.write(markdown_table(table) + "\n")
    return 0


def attack_draw(seed: int, options: argparse.Namespace) -> Iterator[list[str]]:
    """Test all guesses on the requests of one draw."""
    settings = [f"requests.seed={seed}", f"parties.count={options.parties}"]
    settings += [f"parties.requests-per-round={options.requests}"]
    config = read_scenario(SCENARIO, settings)
    prepared = prepare(config)
    shares = find_shares(config.model, config.requests, config.parties).in_round(1)
    hands = [list(hand.requests) for hand in shares]
    guesses = distinct(_pool_of(config))
    layer, templates = prepared.plan.parameters.layers[0], prepared.plan.templates
    asked = [*guesses.values()]
    keys = extract_keys(prepared.model, asked, templates, [layer])[layer]
    truth = [are_among(guesses, hand) for hand in hands]
    seen = _observe(prepared, hands, layer, keys)
    for kind in dict.fromkeys((each.observer, each.verdict.test) for each in seen):
        same = [e for e in seen if (e.observer, e.verdict.test) == kind]
        found = [measure(each.verdict, _edited(truth, each)) for each in same]
        yield [str(seed), *kind, *_cells(found)]


def _observe(
    prepared: Preparation,
    hands: Sequence[list[EditRequest]],
    layer: int,
    keys: Float[Tensor, "n d_in"],
) -> list[Seen]:
    """Let the server and the holder of the update test keys."""
    parts = {party: _sent(prepared, hand, layer) for party, hand in enumerate(hands)}
    seen = [*see_statistics([KeptRound({layer: parts})], layer, keys)]
    asked = [request for hand in hands for request in hand]
    priors = {
        number: prepared.prior_weight * moment.double()
        for number, moment in prepared.covariance.moments.items()
    }
    update = edit_alone(prepared.model, asked, prepared.plan, priors)
    sent = update[prepared.model.weight_name(layer)].float()
    return [*seen, *see_update(sent, priors[layer], len(distinct(asked)), keys)]


def attack_many(config: RunConfig, prepared: Preparation) -> Iterator[list[str]]:
    """Test as many made-up guesses again as were edited, for ever more edits."""
    layer, templates = prepared.plan.parameters.layers[0], prepared.plan.templates
    _, d_in = prepared.model.widths(layer)
    pool = make_up(_pool_of(config), 2 * int(max(SHARES) * d_in))
    keys = extract_keys(prepared.model, pool, templates, [layer])[layer]
    for share in SHARES:
        edits = int(share * d_in)
        tested, edited = keys[: 2 * edits], torch.arange(2 * edits) < edits
        seen = Directions.of_gram(tested[edited].mT @ tested[edited])
        for verdict in (
            score_span(tested, seen.span),
            score_leverage(tested, seen),
        ):
            found = measure(verdict, edited)
            yield [str(edits), f"{share:.1f}", verdict.test, *_cells([found])]


def make_up(pool: Sequence[EditRequest], count: int) -> list[EditRequest]:
    """Make requests about subjects that share the names of known ones, in any order."""
    names = [each.subject.split() for each in pool]
    firsts, lasts = sorted({n[0] for n in names}), sorted({n[-1] for n in names})
    people = [f"{first} {last}" for first, last in product(firsts, lasts)]
    random.Random(0).shuffle(people)
    prompts = {Guess.of(each).beginning: each for each in pool}
    made = [
        each.model_copy(update={"subject": person})
        for each in prompts.values()
        for person in people
    ]
    random.Random(1).shuffle(made)
    if len(made) < count:
        raise ValueError(f"{count} subjects are wanted, and {len(made)} can be made")
    return made[:count]


def _sent(
    prepared: Preparation, requests: list[EditRequest], layer: int
) -> LayerStatistics:
    """What a party sends of a layer, as the server decodes it."""
    model, plan = prepared.model, prepared.plan
    d_out, d_in = model.widths(layer)
    targets = compute_targets(model, requests, plan.templates, plan.parameters)
    pairs = read_pairs(model, requests, targets, plan, [layer])[layer]
    return decode(encode(pairs.keys, pairs.residuals, "factors"), d_in, d_out)


def _edited(truth: Sequence[Bool[Tensor, " n"]], seen: Seen) -> Bool[Tensor, " n"]:
    if seen.party is not None:
        return truth[seen.party]
    together: Bool[Tensor, " n"] = torch.stack([*truth]).any(dim=0)
    return together


def _cells(found: Sequence[Success]) -> list[str]:
    """Return how many guesses are right, and means over parties."""
    return [
        str(sum(each.right for each in found)),
        _mean([each.recall for each in found], "{:.1%}"),
        _mean([each.false_alarms for each in found], "{:.1%}"),
        _mean([each.auc for each in found], "{:.4f}"),
    ]


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [each for each in values if each is not None]
    return form.format(sum(known) / len(known)) if known else "–"


def _pool_of(config: RunConfig) -> list[EditRequest]:
    """All requests that the parties' ones are drawn from."""
    return read_requests(Path(resolve_model(config.model.path)) / "requests.json")


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guessing")
    parser.add_argument("--parties", type=int, default=10, help="how many there are")
    parser.add_argument("--requests", type=int, default=10, help="of each party")
    parser.add_argument("--threads", type=int, default=2, help="threads for torch")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
