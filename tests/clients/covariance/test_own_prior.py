"""A party that solves alone solves against what the server would."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import editing.covariance.cache
from clients.covariance.own_prior import OtherCovarianceError, find_own_priors
from clients.settings import ClientConfig, read_client_config
from editing.algebra.encodings import decode
from editing.algebra.solving import Prior, solve_delta
from editing.covariance.cache import digest_covariance
from editing.covariance.covariance import (
    Covariance,
    CovarianceError,
    Provenance,
    compute_covariance,
)
from editing.covariance.files import save_covariance
from editing.memit.pipeline import edit_alone
from server.config import read_run_config
from server.preparation import Preparation, prepare
from sims.runs.in_process import make_contexts
from strategies.rounds.memory import Memory
from strategies.wire.failures import read_failure
from strategies.wire.messages import OwnPrior, Phase, read_statistics
from tests.clients.nodes import ask, job_of
from tests.federation import (
    TEXT,
    Federation,
    assert_same_delta,
    settings_of,
)
from tests.laws import ALGEBRA, assert_same, draw_statistics
from tests.tiny import LAYERS

Make = Callable[..., Federation]


@pytest.fixture
def prepared(federate: Make) -> Preparation:
    """Prepare a run of parties that solve alone."""
    return federate(editing={"schedule": "alone"}).preparation


def config_of(world: Path, **node: str) -> ClientConfig:
    """Read the settings of a node."""
    flat = settings_of(world, editing={"schedule": "alone"})
    (context,) = make_contexts(flat, 1, [node]).values()
    return read_client_config(context)


def prior_of(prepared: Preparation, **changes: object) -> OwnPrior:
    """Say what the server would."""
    digest = digest_covariance(prepared.covariance, LAYERS)
    prior = OwnPrior(covariance=digest, weight=3.0, memory_weight=0.5)
    return prior.model_copy(update=changes)


def test_a_party_s_prior_is_the_server_s(world: Path, prepared: Preparation) -> None:
    """``λ·C₀ + γ·Σ past grams``, layer by layer; in the first round nothing is past."""
    config, own = config_of(world), prior_of(prepared)
    gram = draw_statistics(5).gram
    padded = torch.zeros(24, 24, dtype=torch.float64)
    padded[: len(gram), : len(gram)] = gram
    for grams in ({}, {LAYERS[1]: padded}):
        found = find_own_priors(prepared.model, config, LAYERS, own, grams)
        assert tuple(found) == LAYERS
        for layer, prior in found.items():
            moment = prepared.covariance.moments[layer]
            memory = Memory(moment, 3.0, 0.5)
            expected = memory.remember(grams[layer]) if layer in grams else memory
            assert torch.equal(prior, expected.prior().matrix())


def test_another_covariance_is_refused_however_little_it_differs(
    world: Path, prepared: Preparation, tmp_path: Path
) -> None:
    """The party would solve something else than it says."""
    made = prepared.covariance
    moved = {k: torch.nextafter(v, v + 1) for k, v in made.moments.items()}
    for number, moments in enumerate((made.moments, moved)):
        save_covariance(
            Covariance(moments, made.provenance), tmp_path / f"{number}.safetensors"
        )
    own = prior_of(prepared)
    same = config_of(world, **{"covariance-path": str(tmp_path / "0.safetensors")})
    found = find_own_priors(prepared.model, same, LAYERS, own, {})
    assert_same(found[1], 3.0 * made.moments[1])
    other = config_of(world, **{"covariance-path": str(tmp_path / "1.safetensors")})
    with pytest.raises(OtherCovarianceError, match="covariance-path"):
        find_own_priors(prepared.model, other, LAYERS, own, {})
    lied = prior_of(prepared, covariance="0" * 64)
    with pytest.raises(OtherCovarianceError):
        find_own_priors(prepared.model, same, LAYERS, lied, {})


def test_a_covariance_that_was_sent_is_taken_for_any_of_the_node_s_own(
    world: Path, prepared: Preparation
) -> None:
    """If it has the digest that the server sent; nothing is estimated here."""
    pooled = {k: 2 * moment for k, moment in prepared.covariance.moments.items()}
    sent = Covariance(pooled, prepared.covariance.provenance)
    own = prior_of(prepared, covariance=digest_covariance(sent, LAYERS), travels=True)
    named = {"covariance-path": "/no/covariance"}
    for config in (config_of(world, **named), federated(config_of(world))):
        found = find_own_priors(prepared.model, config, LAYERS, own, {}, pooled)
        for layer in LAYERS:
            assert torch.equal(found[layer], 3.0 * pooled[layer])
        with pytest.raises(OtherCovarianceError, match="covariance-path"):
            find_own_priors(
                prepared.model, config, LAYERS, prior_of(prepared), {}, pooled
            )


def test_a_covariance_of_all_parties_that_was_not_sent_is_missed(
    world: Path, prepared: Preparation
) -> None:
    """A node has no other way to it."""
    config = federated(config_of(world))
    with pytest.raises(OtherCovarianceError, match="did not send"):
        find_own_priors(prepared.model, config, LAYERS, prior_of(prepared), {})


def federated(config: ClientConfig) -> ClientConfig:
    """Have the parties estimate the covariance together."""
    prior = config.prior.model_copy(update={"covariance": "federated"})
    return config.model_copy(update={"prior": prior})


def test_a_covariance_of_another_model_is_named_as_such(
    world: Path, prepared: Preparation, tmp_path: Path
) -> None:
    """Before its digest is looked at."""
    made = prepared.covariance
    file = tmp_path / "stranger.safetensors"
    stranger = Provenance("0" * 64, "text", len(TEXT))
    save_covariance(Covariance(made.moments, stranger), file)
    config = config_of(world, **{"covariance-path": str(file)})
    with pytest.raises(CovarianceError, match="another model"):
        find_own_priors(prepared.model, config, LAYERS, prior_of(prepared), {})


def test_server_and_party_compute_with_one_number_of_threads(
    world: Path, prepared: Preparation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else neither would find the other's bits on a machine of its own."""
    before, taken = torch.get_num_threads(), []

    def note(*arguments: object, **named: object) -> Covariance:
        taken.append(torch.get_num_threads())
        return compute_covariance(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(editing.covariance.cache, "compute_covariance", note)
    flat = settings_of(world, editing={"schedule": "alone"}, model={"threads": 2})
    (context,) = make_contexts(flat, 1).values()
    torch.set_num_threads(3)
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "server"))
        own = prior_of(prepare(read_run_config(flat)))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "party"))
        find_own_priors(prepared.model, read_client_config(context), LAYERS, own, {})
    finally:
        torch.set_num_threads(before)
    assert taken == [2, 2]


def test_one_party_alone_is_memit_layer_by_layer(federate: Make) -> None:
    """Over rounds, too: the grams of earlier rounds travel to it."""
    one = {"count": 1, "requests-per-round": 3}
    alone = federate(parties=one, run={"rounds": 2}, editing={"schedule": "alone"})
    layerwise = federate(parties=one, run={"rounds": 2})
    assert_same_delta(alone.delta(), layerwise.edit_alone(), ALGEBRA)


def test_the_server_solves_a_party_s_own_delta_from_what_it_sent(
    federate: Make,
) -> None:
    """Alone, every party makes a MEMIT of its own, and the merge sees no other."""
    federation = federate(editing={"schedule": "alone"})
    federation.run("task-arithmetic")
    model, plan = federation.preparation.model, federation.preparation.plan
    priors = {
        layer: edited.memory.prior().matrix()
        for layer, edited in federation.preparation.layers(1.0).items()
    }
    replies = federation.replies(Phase.TARGETS)
    assert len(replies) == 3
    for reply, requests in zip(replies, federation.requests_of_parties(1), strict=True):
        own = edit_alone(model, requests, plan, priors)
        solved = {
            model.weight_name(layer): solve_delta(
                decode(read_statistics(reply.content, layer, 1), 24, 16),
                Prior(priors[layer]),
            )
            for layer in LAYERS
        }
        assert_same_delta(solved, own, ALGEBRA)


def test_alone_no_merge_of_two_parties_is_global(federate: Make) -> None:
    """A later layer's keys are read on the party's own updates, not on the merged."""
    tables = {"editing": {"schedule": "alone"}, "parties": {"count": 2}}
    together = federate(**tables).delta()
    pooled = federate(**tables).delta("global")
    first, last = (
        federate(**tables).preparation.model.weight_name(layer) for layer in LAYERS
    )
    assert_same(together[first], pooled[first], ALGEBRA)
    assert float((together[last] - pooled[last]).norm() / pooled[last].norm()) > 0.01


def test_a_party_with_another_covariance_says_so(
    federate: Make, tmp_path: Path
) -> None:
    """Its class alone leaves the node."""
    federation = federate(editing={"schedule": "alone"})
    made = federation.preparation.covariance
    doubled = {layer: 2 * moment for layer, moment in made.moments.items()}
    file = tmp_path / "other.safetensors"
    save_covariance(Covariance(doubled, made.provenance), file)
    other = federate(
        node_configs={1: {"covariance-path": str(file)}}, editing={"schedule": "alone"}
    )
    content = job_of(other)
    reply = ask(other, Phase.TARGETS, content)
    assert read_failure(reply.content) == "another covariance"
