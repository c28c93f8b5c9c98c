"""A round under `boundary`: two exchanges, each with targets of its own."""

from collections.abc import Callable

import pytest
import torch

from editing.memit.pipeline import find_own_targets
from strategies.wire.messages import Phase, read_job
from tests.federation import (
    Federation,
    Recorder,
    assert_same_bits,
    assert_same_delta,
    count_targets,
)
from tests.laws import ALGEBRA
from tests.tiny import LAYERS

Make = Callable[..., Federation]

BOUNDARY = {"schedule": "boundary"}


@pytest.mark.parametrize("sizes", ["[6]", "[1, 5]", "[4, 0, 2]", "[1, 1, 1, 1, 1, 1]"])
def test_no_split_of_the_requests_changes_the_update(
    federate: Make, sizes: str
) -> None:
    """Over one party or many, one of them empty."""
    count = sizes.count(",") + 1
    parties = {"count": count, "requests-per-round": sizes, "allow-empty": True}
    federation = federate(editing=BOUNDARY, parties=parties)
    assert_same_delta(federation.delta(), federation.edit_alone(), ALGEBRA)


def test_each_exchange_computes_targets_once(
    federate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the second are kept as well, under a name of their own."""
    counted = count_targets(monkeypatch)
    federation = federate(editing=BOUNDARY)
    first = federation.delta()
    asked = sorted(each.subject for each in federation.requests(1))
    assert sorted(counted) == sorted(2 * asked)
    layers = [
        read_job(message.content).layers
        for phase in (Phase.TARGETS, Phase.STATISTICS)
        for message in federation.requests_to(0, phase)
    ]
    assert layers == [(LAYERS[0],), (LAYERS[-1],)]
    assert_same_bits(federation.delta(), first)
    assert len(counted) == 2 * len(asked)


def test_what_the_first_exchange_finds_known_no_layer_edits(federate: Make) -> None:
    """So that all layers are sums over the same requests."""
    plain = federate(editing=BOUNDARY)
    prepared, requests = plain.preparation, plain.requests(1)
    model, plan = prepared.model, prepared.plan
    targets = find_own_targets(model, requests, plan, plan.steps[0])
    ratios = targets.shift.norm(dim=1) / targets.hidden.norm(dim=1)
    parties = {"skip-known": float(ratios.median())}
    strategy, _ = federate(editing=BOUNDARY, parties=parties).run()
    outcome = strategy.registry.outcomes[1]
    assert (outcome.known, outcome.requests) == (3, 3)
    assert outcome.refusals == []
    assert sum(outcome.edits.values()) == outcome.requests


def test_a_resumed_run_has_the_bits_of_the_whole_one(federate: Make) -> None:
    """After its first round."""
    tables = {"editing": BOUNDARY, "run": {"rounds": 2}}
    recorder = Recorder()
    whole, _ = federate(**tables).run(callbacks=recorder)
    rest, _ = federate(**tables).run(resume=recorder.states[0])
    assert_same_bits(rest.delta, whole.delta)
    assert all(bool(torch.isfinite(each).all()) for each in whole.delta.values())


def test_the_diagnosis_is_of_the_first_exchange(federate: Make) -> None:
    """What is left there of the way to the first layer's targets."""
    federation = federate(editing=BOUNDARY)
    recorder = Recorder()
    federation.run(callbacks=recorder)
    sums = recorder.rounds[0].evaluation.of_round(1)
    assert sums.counts["residual_left"] == len(federation.requests(1))
    assert 0 < sums.means()["residual_left"] < 1
