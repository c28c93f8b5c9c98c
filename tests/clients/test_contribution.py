"""What a client computes is what the engine computes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.contribution import (
    contribute,
    diagnose_edits,
    evaluate_own_requests,
    leave_unedited,
    name_evaluation,
    sum_by_round,
)
from clients.round_targets import RoundTargets
from clients.selection import Asked, Group
from editing.algebra.deltas import applied
from editing.algebra.encodings import decode
from editing.algebra.solving import Prior, solve_delta
from editing.evaluation.answers import measure_answers
from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.generated_texts import measure_texts
from editing.evaluation.metrics import ANSWERED, DIAGNOSIS, MetricSums
from editing.hyperparameters.config import Plan
from editing.memit.pipeline import edit_alone, read_pairs
from editing.memit.residuals import read_hidden
from editing.memit.targets import Targets, compute_targets
from editing.models.loading import EditableModel
from editing.requests.edit_request import parse_request
from editing.requests.paraphrases import phrase
from strategies.wire.messages import Job, ModelIdentity
from strategies.wire.metrics import EvaluationSums
from tests.federation import QUICK
from tests.laws import (
    ALGEBRA,
    assert_same,
    assert_same_statistics,
    draw_prior,
    relative_difference,
)
from tests.tiny import LAYERS, PARAMETERS, TEMPLATES, tiny_model, tiny_requests

PLAN = Plan(
    parameters=PARAMETERS.model_copy(update=QUICK),
    schedule="frozen-harmonic",
    templates=TEMPLATES[:2],
)
JOB = Job(
    identity=ModelIdentity(weights="w", tokenizer="t"),
    plan=PLAN,
    round=1,
    layers=LAYERS,
)
REQUESTS = tiny_requests(4)


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """Make one tiny model."""
    return tiny_model()


@pytest.fixture(scope="module")
def targets(model: EditableModel) -> Targets:
    """Compute all targets at once."""
    return compute_targets(model, REQUESTS, PLAN.templates, PLAN.parameters)


@pytest.mark.parametrize("encoding", ["factors", "dense"])
def test_what_is_sent_decodes_to_the_statistics_of_keys_and_residuals(
    model: EditableModel, targets: Targets, encoding: str
) -> None:
    """Of each layer that was asked for, and of no other."""
    pairs = read_pairs(model, REQUESTS, targets, PLAN, LAYERS)
    for layers in (LAYERS, LAYERS[:1]):
        job = JOB.model_copy(update={"encoding": encoding, "layers": layers})
        sent = contribute(model, REQUESTS, targets, job, seed=None)
        assert tuple(sent) == layers
        for layer, encoded in sent.items():
            d_out, d_in = model.widths(layer)
            assert encoded.encoding == encoding
            assert_same_statistics(
                decode(encoded, d_in, d_out), pairs[layer].statistics
            )


def test_a_simulation_repeats_its_rotations_and_nothing_else_does(
    model: EditableModel, targets: Targets
) -> None:
    """Seed, round and layer draw another one each; without a seed, the system does."""

    def keys(seed: str | None, number: int = 1, layer: int = 1) -> Tensor:
        job = JOB.model_copy(update={"round": number})
        sent = contribute(model, REQUESTS, targets, job, seed)
        return sent[layer].tensors["keys"]

    same = keys("0/1")
    assert torch.equal(same, keys("0/1"))
    for other in (keys("0/2"), keys("1/1"), keys("0/1", 2), keys(None)):
        assert not torch.allclose(same, other)
        assert_same(other.mT @ other, same.mT @ same)
    assert not torch.equal(keys(None), keys(None))
    scaled = [
        keys("0/1", layer=k) @ torch.linalg.pinv(keys(None, layer=k)) for k in LAYERS
    ]
    assert not torch.allclose(*scaled)


@pytest.mark.parametrize("layers", [LAYERS, LAYERS[1:]])
def test_a_party_that_solves_alone_sends_what_it_solved_from(
    model: EditableModel, targets: Targets, layers: tuple[int, ...]
) -> None:
    """So the server comes to the party's own delta."""
    plan = PLAN.model_copy(update={"schedule": "alone"})
    job = JOB.model_copy(update={"plan": plan, "layers": layers})
    priors = {layer: 5 * draw_prior(layer, 24) for layer in LAYERS}
    sent = contribute(model, REQUESTS, targets, job, "0/1", priors)
    own = edit_alone(model, REQUESTS, plan, priors, targets)
    assert tuple(sent) == layers
    for layer, encoded in sent.items():
        d_out, d_in = model.widths(layer)
        solved = solve_delta(decode(encoded, d_in, d_out), Prior(priors[layer]))
        assert_same(solved, own[model.weight_name(layer)], ALGEBRA)


def test_alone_a_later_layer_is_read_on_the_party_s_own_updates(
    model: EditableModel, targets: Targets
) -> None:
    """Keys are read again on the model as it stands only where nothing is solved."""
    job = JOB.model_copy(update={"plan": PLAN.model_copy(update={"schedule": "alone"})})
    priors = {layer: 5 * draw_prior(layer, 24) for layer in LAYERS}
    first, last = LAYERS
    walked, still = (
        {
            layer: decode(part, 24, 16).gram
            for layer, part in contribute(
                model, REQUESTS, targets, job, "0/1", given
            ).items()
        }
        for given in (priors, None)
    )
    assert_same(walked[first], still[first])
    assert relative_difference(walked[last], still[last]) > 0.01


def asked_of(*rounds: int) -> list[Asked]:
    """Ask for the requests in these rounds."""
    return [
        Asked(7, number, place, request)
        for place, (number, request) in enumerate(zip(rounds, REQUESTS, strict=True))
    ]


def test_cases_are_those_of_the_evaluation_with_what_was_asked(
    model: EditableModel,
) -> None:
    """A party can read its own case files: what, when, and how far it lay."""
    asked = asked_of(1, 1, 1, 2)
    known = {1: {(7, 0): (3.0, 0.5), (6, 1): (9.0, 9.0)}, 3: {(7, 3): (9.0, 9.0)}}
    cases = evaluate_own_requests(model, asked, known)
    expected = evaluate_requests(model, REQUESTS)
    for case, plain, request in zip(cases, expected, REQUESTS, strict=True):
        assert case["post"] == plain["post"]
        assert case["case_id"] == request.case_id
        assert isinstance(case["time"], float)
        read = parse_request(
            {k: case[k] for k in ("case_id", "requested_rewrite")}, "case"
        )
        assert (read.prompt, read.subject) == (request.prompt, request.subject)
        assert (read.target_new, read.target_true) == (
            request.target_new,
            request.target_true,
        )
    assert evaluate_own_requests(model, []) == []
    assert [case["num_edits"] for case in cases] == [3, 3, 3, 1]
    assert [(case["party"], case["round"]) for case in cases] == [
        (each.party, each.round) for each in asked
    ]
    lay = [(case["residual_norm"], case["residual_ratio"]) for case in cases]
    assert lay == [(3.0, 0.5)] + [(None, None)] * 3


def test_an_evaluation_is_named_after_all_that_it_depends_on(
    model: EditableModel,
) -> None:
    """And after nothing else: not the merge, and not the round."""
    config, asked = EvaluationConfig(), asked_of(1, 1, 1, 2)
    identity = ModelIdentity(weights="w", tokenizer="t")
    job = Job(identity=identity, plan=PLAN)
    name = name_evaluation(model, asked, config, job, "updates", 0)
    other_round = [replace(each, round=3, party=9) for each in asked]
    same = job.model_copy(update={"label": "ties", "round": 4, "before": "b"})
    assert name_evaluation(model, other_round, config, same, "updates", 0) == name
    other = job.model_copy(update={"identity": ModelIdentity(weights="", tokenizer="")})
    drawn = EvaluationConfig(generation=True)
    threads = torch.get_num_threads()
    names = [
        name,
        name_evaluation(model, asked[::-1], config, job, "updates", 0),
        name_evaluation(model, asked[1:], config, job, "updates", 0),
        name_evaluation(model, asked, drawn, job, "updates", 0),
        name_evaluation(model, asked, config, other, "updates", 0),
        name_evaluation(model, asked, config, job, "others", 0),
        name_evaluation(model, asked, config, job, "updates", 1),
    ]
    torch.set_num_threads(threads + 1)
    names.append(name_evaluation(model, asked, config, job, "updates", 0))
    torch.set_num_threads(threads)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_what_is_edited_in_other_words_is_evaluated_by_the_rest(
    model: EditableModel, count: int
) -> None:
    """The first wordings are edited; all else of a request is as it was."""
    asked = asked_of(1, 1, 2, 2)
    groups = [
        Group(tuple(own), tuple(tuple(phrase(each.request, count)) for each in own))
        for own in (asked[:3], asked[3:])
    ]
    left = leave_unedited(groups)
    for ours, theirs in zip(left, asked, strict=True):
        own = theirs.request.paraphrase_prompts
        copies = len(phrase(theirs.request, count)) - 1
        rest = theirs.request.model_copy(update={"paraphrase_prompts": own[copies:]})
        assert ours == Asked(theirs.party, theirs.round, theirs.place, rest)
    evaluated = [case["post"] for case in evaluate_own_requests(model, left)]
    plain = evaluate_requests(model, [each.request for each in left])
    assert evaluated == [case["post"] for case in plain]


def test_each_round_s_requests_are_summed_apart(model: EditableModel) -> None:
    """All rounds together sum to what all cases sum to."""
    cases = evaluate_own_requests(model, asked_of(3, 1, 1, 3))
    found = sum_by_round(cases)
    assert list(found.by_round) == [1, 3]
    assert found.of_round(1) == sum_cases(cases[1:3])
    assert found.of_round(3) == sum_cases([cases[0], cases[3]])
    total = found.of_round(1) + found.of_round(3)
    assert total.counts == sum_cases(cases).counts
    assert total.sums == pytest.approx(sum_cases(cases).sums)
    assert sum_by_round([]) == EvaluationSums()


def round_targets(targets: Targets) -> RoundTargets:
    """Put requests and a further phrasing of the first one together."""
    asked = asked_of(1, 1, 1, 1)
    first, *others = [each.request for each in asked]
    group = Group(tuple(asked), ((first, first), *((each,) for each in others)))
    return RoundTargets(group, targets.map(lambda each: each[[0, 0, 1, 2, 3]]))


def test_edits_are_diagnosed_on_the_edited_model(
    model: EditableModel, targets: Targets
) -> None:
    """By the definition, over requests and not over their phrasings."""
    found = round_targets(targets)
    layer = LAYERS[-1]
    before = read_hidden(model, REQUESTS, layer)
    priors = {each: torch.eye(model.widths(each)[1]) for each in LAYERS}
    delta = edit_alone(model, REQUESTS, PLAN, priors, targets)
    with applied(delta, model.model):
        diagnosis = diagnose_edits(model, [found], None, PARAMETERS)
        after = read_hidden(model, REQUESTS, layer)
    wanted = (targets.states - before).norm(dim=1)
    left = (targets.states - after).norm(dim=1) / wanted
    assert diagnosis.counts == dict.fromkeys(DIAGNOSIS, len(REQUESTS))
    assert diagnosis.means() == pytest.approx(
        {
            "target_loss": float(targets.loss.mean()),
            "target_probability": float(targets.probability.mean()),
            "target_stopped": float(targets.stopped.double().mean()),
            "target_clamped": float(targets.clamped.double().mean()),
            "residual_left": float(left.mean()),
        }
    )
    unedited = diagnose_edits(model, [found], None, PARAMETERS)
    assert unedited.means()["residual_left"] == pytest.approx(1.0)


def test_only_edited_requests_are_diagnosed(
    model: EditableModel, targets: Targets
) -> None:
    """Not those that the model knows; a target that asks for nothing has none left."""
    found = round_targets(targets)
    assert diagnose_edits(model, [found], 1e9, PARAMETERS) == MetricSums()
    assert diagnose_edits(model, [], None, PARAMETERS) == MetricSums()
    still = replace(found.targets, shift=torch.zeros_like(found.targets.shift))
    nothing = diagnose_edits(model, [replace(found, targets=still)], None, PARAMETERS)
    assert nothing.counts == dict.fromkeys(set(DIAGNOSIS) - {"residual_left"}, 4)
    tiny = replace(found.targets, shift=found.targets.shift * 1e-8)
    noise = diagnose_edits(model, [replace(found, targets=tiny)], None, PARAMETERS)
    assert noise.counts == nothing.counts


def test_answers_are_generated_where_they_are_asked_for(model: EditableModel) -> None:
    """They stand in the case with the ids of their definitions; sums have them."""
    config = EvaluationConfig(answer_tokens=5)
    asked = asked_of(1, 2, 2, 2)[:2]
    wanted = measure_answers(model, [each.request for each in asked], config)
    bare = evaluate_own_requests(model, asked, config=config.of_round(last=False))
    cases = evaluate_own_requests(model, asked, config=config.of_round(last=True))
    for case, plain, fields in zip(cases, bare, wanted, strict=True):
        post, before = case["post"], plain["post"]
        assert isinstance(post, dict)
        assert isinstance(before, dict)
        assert post == before | fields
        ids = case["definitions"]
        assert isinstance(ids, dict)
        assert plain["definitions"] == {}
        assert set(ids) == set(ANSWERED)
        assert all(each.endswith(".tokens-5") for each in ids.values())
    assert sum_by_round(cases).of_round(2).counts["rewrite_generated_exact"] == 1


def test_texts_are_measured_where_they_are_asked_for(model: EditableModel) -> None:
    """Each is drawn by the run's seed and the request, and stands in the case."""
    config = EvaluationConfig(generation=True, max_tokens=12)
    asked = [
        replace(
            each,
            request=each.request.model_copy(
                update={"generation_prompts": (each.request.rewrite_prompt, "Ada")}
            ),
        )
        for each in asked_of(1, 2, 2, 2)[:2]
    ]
    requests = [each.request for each in asked]
    cases = evaluate_own_requests(model, asked, config=config, seed=3)
    wanted = measure_texts(model, requests, config, 3)
    for case, fields, plain in zip(
        cases, wanted, evaluate_own_requests(model, asked), strict=True
    ):
        post, bare = case["post"], plain["post"]
        assert isinstance(post, dict)
        assert isinstance(bare, dict)
        assert post == bare | fields
        assert len(post["text"]) == 2
    assert sum_by_round(cases).of_round(2).counts["ngram_entropy"] == 1
