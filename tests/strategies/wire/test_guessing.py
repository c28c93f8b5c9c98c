"""What `docs/security.md` warns of is so: a server can test a guessed subject."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from editing.algebra.encodings import Encoding, decode, encode
from editing.algebra.statistics import LayerStatistics
from editing.hyperparameters.choice import load_named
from editing.memit.keys import extract_keys
from editing.requests.edit_request import read_requests
from editing.sources.embedded import locate_embedded
from sims.audit.guesses import Guess, are_among, distinct
from sims.audit.scores import (
    INSIDE,
    Directions,
    share_outside,
    span_of_update,
)
from strategies.wire.messages import Phase, read_statistics
from tests.federation import Federation, world_requests
from tests.tiny import LAYERS

Make = Callable[..., Federation]
FIRST = LAYERS[0]


def accuracy(shares: Tensor, edited: Tensor) -> float:
    """How often the server is right, if half of its guesses were edited."""
    right = [((shares < INSIDE) == edited)[side].double() for side in (edited, ~edited)]
    return float(sum(each.mean() for each in right) / 2)


def keys_of_guesses(federation: Federation) -> tuple[list[Guess], Tensor]:
    """All that the server may guess, and the keys that it computes of them."""
    guesses = distinct(world_requests())
    model, plan = federation.preparation.model, federation.preparation.plan
    keys = extract_keys(model, [*guesses.values()], plan.templates, [FIRST])[FIRST]
    return list(guesses), keys


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_what_a_party_sends_tells_whether_a_guess_is_among_its_requests(
    federate: Make, encoding: Encoding
) -> None:
    """In either encoding, from the first reply; a sum tells it of all its parties."""
    federation = federate(run={"encoding": encoding})
    federation.run()
    guesses, keys = keys_of_guesses(federation)
    grams = []
    for party, reply in enumerate(federation.replies(Phase.TARGETS)):
        sent = decode(read_statistics(reply.content, FIRST, 1), 24, 16)
        edited = are_among(guesses, federation.requests_of_parties(1)[party])
        assert edited.sum() == 2
        span = Directions.of(sent).span
        assert accuracy(share_outside(keys, span), edited) == 1
        grams.append(sent.gram)
    edited = are_among(guesses, federation.requests(1))
    span = Directions.of_gram(torch.stack(grams).sum(dim=0)).span
    assert accuracy(share_outside(keys, span), edited) == 1
    assert (int(edited.sum()), len(guesses)) == (6, 12)


def test_the_merged_update_tells_whether_anybody_asked_for_a_guess(
    federate: Make,
) -> None:
    """To all parties, and to whoever is given the edited model."""
    federation = federate()
    delta = federation.delta()
    guesses, keys = keys_of_guesses(federation)
    prepared = federation.preparation
    prior = prepared.prior_weight * prepared.covariance.moments[FIRST].double()
    edited = are_among(guesses, federation.requests(1))
    span = span_of_update(delta[prepared.model.weight_name(FIRST)], prior, rank=6)
    assert accuracy(share_outside(keys, span), edited) == 1


def test_more_edits_than_a_layer_is_wide_answer_no_guess() -> None:
    """Then every key lies in the span, and the server must look for something else."""
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(40, 24, generator=generator, dtype=torch.float64)
    for edits, wanted in ((20, 1.0), (30, 0.5)):
        statistics = LayerStatistics.of_pairs(keys[:edits], keys[:edits, :16])
        shares = share_outside(keys, Directions.of(statistics).span)
        assert accuracy(shares, torch.arange(40) < edits) == wanted


def test_guesses_are_tested_on_the_embedded_model() -> None:
    """Ten requests among a hundred and sixty subjects, in the precision of the wire.

    `python -m benchmarks.guessing` does so with every sight and more guesses.
    """
    model = load_named(str(locate_embedded()), "float32", "cpu")
    pool = read_requests(locate_embedded() / "requests.json")
    guesses = distinct(pool[::4])
    plan_templates = ("{}", "They said that {}")
    keys = extract_keys(model, [*guesses.values()], plan_templates, [0])[0]
    own = [*guesses.values()][:10]
    mine = extract_keys(model, own, plan_templates, [0])[0]
    sent = encode(mine, torch.zeros(10, 128), "factors")
    span = Directions.of(decode(sent, 1536, 128)).span
    shares, edited = share_outside(keys, span), are_among([*guesses], own)
    assert len(guesses) > 100
    assert accuracy(shares, edited) > 0.95
    assert shares[edited].max() < INSIDE / 100
    assert shares[~edited].min() > INSIDE * 10
