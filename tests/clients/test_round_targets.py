"""Targets are computed once for a party's requests, and say which it needs no more."""

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import clients.round_targets
from clients.round_targets import (
    Batching,
    RoundTargets,
    choose_edits,
    distances_of,
    find_targets,
    kept_targets,
    summarise_targets,
)
from clients.selection import Asked, Group
from clients.target_cache import TargetCache, describe_cache
from editing.hyperparameters.config import Plan
from editing.memit.targets import Targets, compute_targets
from editing.models.loading import EditableModel
from editing.requests.paraphrases import phrase
from strategies.wire.messages import Job, ModelIdentity, Phase, read_targets_reply
from tests.clients.nodes import ask, cases_of
from tests.federation import (
    QUICK,
    Federation,
    assert_same_bits,
    assert_same_delta,
    edit_in_rounds,
)
from tests.laws import ALGEBRA, make_targets
from tests.tiny import PARAMETERS, TEMPLATES, tiny_model, tiny_requests

Make = Callable[..., Federation]
PLAN = Plan(
    parameters=PARAMETERS.model_copy(update=QUICK),
    schedule="layerwise",
    templates=TEMPLATES[:2],
)
JOB = Job(identity=ModelIdentity(weights="w", tokenizer="t"), plan=PLAN, round=1)
REQUESTS = tiny_requests(5)


def group_of(party: int, *places: int) -> Group:
    """Make a group of requests without further phrasings."""
    asked = tuple(Asked(party, 1, place, REQUESTS[place]) for place in places)
    return Group(asked, tuple((each.request,) for each in asked))


GROUPS = [group_of(0, 0, 1), group_of(1, 2, 3, 4)]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Make one tiny model in the precision of a run."""
    return tiny_model(dtype=torch.float32)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the requests that targets are computed for."""
    counts: list[int] = []

    def count(*arguments: object) -> Targets:
        counts.append(len(arguments[1]))  # type: ignore[arg-type]
        found: Targets = compute_targets(*arguments)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(clients.round_targets, "compute_targets", count)
    return counts


def assert_same_targets(ours: list[RoundTargets], theirs: list[RoundTargets]) -> None:
    """Compare targets to the last bit."""
    assert [each.group for each in ours] == [each.group for each in theirs]
    for found, expected in zip(ours, theirs, strict=True):
        assert_same_fields(found.targets, expected.targets)


def assert_same_fields(ours: Targets, theirs: Targets) -> None:
    """Compare every field to the last bit."""
    for each in fields(Targets):
        assert torch.equal(getattr(ours, each.name), getattr(theirs, each.name))


def test_targets_are_those_of_the_engine_and_each_party_s_are_its_own(
    model: EditableModel, tmp_path: Path
) -> None:
    """To the bit, what the party would compute by itself."""
    found = find_targets(model, GROUPS, JOB, TargetCache(tmp_path), Batching(2))
    for group, each in zip(GROUPS, found, strict=True):
        expected = compute_targets(
            model, group.requests, PLAN.templates, PLAN.parameters, 2
        )
        assert_same_fields(each.targets, expected)


def test_a_cache_changes_no_number(
    model: EditableModel, tmp_path: Path, computed: list[int]
) -> None:
    """Warm or cold, and by any process: a pool finds what the parties computed."""
    shared = TargetCache(tmp_path / "shared")
    parties = [find_targets(model, [group], JOB, shared)[0] for group in GROUPS]
    assert computed == [2, 3]
    pool = find_targets(model, GROUPS, JOB, shared)
    assert computed == [2, 3]
    cold = find_targets(model, GROUPS, JOB, TargetCache(tmp_path / "cold"))
    assert computed == [2, 3, 2, 3]
    for other in (pool, cold, kept_targets(model, GROUPS, JOB, shared)):
        assert_same_targets(other, parties)


def test_requests_in_other_company_are_computed_anew(
    model: EditableModel, tmp_path: Path, computed: list[int]
) -> None:
    """A batch's last bits depend on who is in it."""
    cache = TargetCache(tmp_path)
    for groups in (GROUPS[1:], [group_of(1, 3, 2, 4)], [group_of(1, 2, 3)]):
        find_targets(model, groups, JOB, cache)
    assert computed == [3, 3, 2]


def test_targets_that_are_gone_are_an_error_that_counts(
    model: EditableModel, tmp_path: Path
) -> None:
    """Statistics of other requests than were counted would be wrong in silence."""
    cache = TargetCache(tmp_path)
    find_targets(model, GROUPS[:1], JOB, cache)
    with pytest.raises(LookupError, match="3 targets of round 1"):
        kept_targets(model, GROUPS, JOB, cache)


def found_with(*ratios: float, phrasings: int = 0) -> RoundTargets:
    """Make targets of one party at these distances, of hidden states 2 long.

    Further phrasings lie 5 times as far as any request.
    """
    hidden = torch.zeros(len(ratios) * (1 + phrasings), 4, dtype=torch.float64)
    hidden[:, 0] = 2
    targets = hidden.clone()
    for number, ratio in enumerate(ratios):
        first = number * (1 + phrasings)
        targets[first, 1] = 2 * ratio
        targets[first + 1 : first + 1 + phrasings, 1] = 10 * max(ratios)
    group = group_of(3, *range(len(ratios)))
    phrased = tuple((each[0],) * (1 + phrasings) for each in group.phrased)
    return RoundTargets(Group(group.asked, phrased), make_targets(hidden, targets))


@pytest.mark.parametrize("phrasings", [0, 2])
def test_distances_are_those_of_the_requests_themselves(phrasings: int) -> None:
    """``‖z − h‖`` and ``‖z − h‖ / ‖h‖``, whatever else is edited with them."""
    found = [found_with(0.5, 0.25, phrasings=phrasings)]
    assert distances_of(found) == {(3, 0): (1.0, 0.5), (3, 1): (0.5, 0.25)}
    reply = summarise_targets(found, left_out=4, skip_known=0.25)
    assert (reply.requests, reply.known, reply.left_out) == (1, 1, 4)
    assert (reply.residual_norm, reply.residual_ratio) == (1.5, 0.75)


@pytest.mark.parametrize(
    ("skip_known", "edited"),
    [
        (None, [0, 1, 2, 3]),
        (0.0, [1, 2, 3]),
        (0.25, [1, 3]),
        (0.5, [3]),
        (math.nextafter(0.5, 0), [1, 3]),
    ],
)
@pytest.mark.parametrize("phrasings", [0, 1])
def test_what_the_model_holds_is_left_out_with_its_phrasings(
    skip_known: float | None, edited: list[int], phrasings: int
) -> None:
    """At the threshold, too; without one, nothing is left out."""
    found = found_with(0.0, 0.5, 0.25, 1.0, phrasings=phrasings)
    requests, targets = choose_edits([found], skip_known)
    rows = [row for place in edited for row in found.group.rows[place]]
    assert requests == [found.group.requests[row] for row in rows]
    assert torch.equal(targets.shift, found.targets.shift[rows])
    reply = summarise_targets([found], 0, skip_known)
    assert (reply.requests, reply.known) == (len(edited), 4 - len(edited))


def test_a_distance_that_is_no_number_is_no_reason_to_leave_a_request_out() -> None:
    """Of what nothing is known, it is not known that the model holds it."""
    assert found_with(0.0, math.nan, 1.0).unknown(0.5) == [1, 2]


def test_parties_of_a_pool_are_edited_one_after_the_other() -> None:
    """In the order in which they are given."""
    found = [found_with(0.25, 0.9), found_with(0.8)]
    requests, targets = choose_edits(found, 0.25)
    assert requests == [REQUESTS[1], REQUESTS[0]]
    assert targets.shift[:, 1].tolist() == pytest.approx([1.8, 1.6])


def test_statistics_of_nothing_are_an_error() -> None:
    """A party without edits is not asked."""
    with pytest.raises(LookupError, match="no request"):
        choose_edits([found_with(0.1)], 0.5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_target_that_asks_for_nothing_is_known(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Its distance is exactly zero: the search returns the state it started at."""
    model = tiny_model(family, dtype=dtype)
    still = PARAMETERS.model_copy(update={"v_num_grad_steps": 1})
    plan = PLAN.model_copy(update={"parameters": still})
    job = JOB.model_copy(update={"plan": plan})
    found = find_targets(model, GROUPS, job, TargetCache(tmp_path))
    assert [each.unknown(0.0) for each in found] == [[], []]
    assert [each.unknown(None) for each in found] == [[0, 1], [0, 1, 2]]
    assert {d.norm for each in found for _, d in each.distances} == {0.0}


def test_in_half_precision_a_small_step_is_still_a_request(tmp_path: Path) -> None:
    """Shifts of three hundredths are not taken for rounding."""
    model = tiny_model(dtype=torch.bfloat16)
    short = {"v_num_grad_steps": 2, "v_lr": 1.0, "clamp_norm_factor": 0.03}
    plan = PLAN.model_copy(update={"parameters": PARAMETERS.model_copy(update=short)})
    job = JOB.model_copy(update={"plan": plan})
    found = find_targets(model, GROUPS, job, TargetCache(tmp_path))
    assert [each.unknown(0.0) for each in found] == [[0, 1], [0, 1, 2]]


def test_a_shared_cache_changes_no_number_and_outlives_the_run(
    federate: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, cold, warm, and under `global`: the same bits."""
    tables = {"run": {"rounds": 2}, "model": {"dtype": "float32"}}
    without = {m: federate(**tables).delta(m) for m in ("collabedit", "global")}
    shared = tmp_path / "shared"
    monkeypatch.setenv("COLLABEDIT_CACHE", str(shared))
    cold = federate(**tables)
    assert_same_bits(cold.delta(), without["collabedit"])
    count = describe_cache(shared)[0]
    assert count == 4  # two batches of three parties in each round
    ask(cold, Phase.FORGET)
    assert describe_cache(shared)[0] == count
    assert not list(cold.private.rglob("*.safetensors"))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(clients.round_targets, "compute_targets", never)
    assert_same_bits(federate(**tables).delta(), without["collabedit"])
    one = {**tables, "run": {"rounds": 1}}
    pooled = federate(**one).delta("global")
    monkeypatch.undo()
    assert_same_bits(pooled, federate(**one).delta("global"))


def test_what_is_known_is_left_out_of_every_exchange_and_still_evaluated(
    federate: Make,
) -> None:
    """The rest is edited as if there had been nothing else."""
    whole = federate(parties={"count": 1, "requests-per-round": 6})
    whole.run()
    by_ratio = sorted(cases_of(whole), key=lambda case: case["residual_ratio"])
    known, threshold = by_ratio[:3], by_ratio[2]["residual_ratio"]
    skipping = federate(
        parties={"count": 1, "requests-per-round": 6, "skip-known": threshold}
    )
    delta = skipping.delta()
    (reply,) = skipping.replies(Phase.TARGETS)
    found = read_targets_reply(reply.content)
    assert (found.requests, found.known) == (3, 3)
    assert len(cases_of(skipping)) == 6
    left = {case["case_id"] for case in known}
    rest = [each for each in whole.requests(1) if each.case_id not in left]
    preparation = whole.preparation
    assert_same_delta(delta, edit_in_rounds(preparation, [rest], 1.0), ALGEBRA)


def test_phrasings_are_edited_and_neither_counted_nor_evaluated(federate: Make) -> None:
    """The edit is that of all wordings on one machine; no evaluation uses them."""
    federation = federate(
        requests={"phrasings": 1}, parties={"count": 1, "requests-per-round": 3}
    )
    strategy, _ = federation.run(evaluate_unedited=True)
    (reply,) = federation.replies(Phase.TARGETS)
    assert read_targets_reply(reply.content).requests == 3
    cases = cases_of(federation)
    assert len(cases) == 6
    assert {len(case["post"]["paraphrase_prompts_probs"]) for case in cases} == {1}
    phrased = [one for each in federation.requests(1) for one in phrase(each, 1)]
    assert len(phrased) > 3
    expected = edit_in_rounds(federation.preparation, [phrased], 1.0)
    assert_same_delta(strategy.delta, expected, ALGEBRA)
