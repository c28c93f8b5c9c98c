"""Laws of the evaluation: what one prompt at a time shows, and metrics that add."""

import math
from typing import Any

import pytest
import torch

from editing.base.errors import InputError
from editing.evaluation.cases import evaluate_requests, predict_locality, sum_cases
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.likelihoods import Continuation
from editing.models.loading import EditableModel
from editing.models.token_rows import tokenize_target, tokenize_text
from editing.requests.edit_request import EditRequest, Question
from tests.tiny import said_by, tiny_model, tiny_requests

ROUNDING = 1e-12
"""Relative difference that another batch may leave in float64."""

MODEL = tiny_model()


def naive_likelihood(model: EditableModel, item: Continuation) -> tuple[float, bool]:
    """Read the answer's tokens one by one, each after those before."""
    ids, costs, hits = list(item.prompt.ids), [], []
    for token in item.answer:
        scores = model.model(input_ids=torch.tensor([ids])).logits[0, -1]
        costs.append(-scores.log_softmax(dim=-1)[token].item())
        hits.append(int(scores.argmax()) == token)
        ids.append(token)
    return sum(costs) / len(costs), all(hits)


def naive_case(request: EditRequest) -> dict[str, Any]:
    """Write a case by its definition."""
    post: dict[str, Any] = {}
    prompts = {
        "rewrite": (request.prompt.replace("{}", request.subject),),
        "paraphrase": request.paraphrase_prompts,
        "neighborhood": request.neighborhood_prompts,
    }
    objects = {"target_new": request.target_new, "target_true": request.target_true}
    for kind, texts in prompts.items():
        probs, correct = [], []
        for text in texts:
            found = {
                name: naive_likelihood(
                    MODEL,
                    Continuation(
                        tokenize_text(MODEL.tokenizer, text),
                        tokenize_target(MODEL.tokenizer, answer),
                    ),
                )
                for name, answer in objects.items()
                if answer is not None
            }
            probs.append({name: nll for name, (nll, _) in found.items()})
            wanted = "target_true" if kind == "neighborhood" else "target_new"
            if wanted in found:
                correct.append(found[wanted][1])
        post[f"{kind}_prompts_probs"] = probs
        post[f"{kind}_prompts_correct"] = correct
    return {"case_id": request.case_id, "post": post}


def evaluated_requests() -> list[EditRequest]:
    """Requests that the model fulfils, does not, or whose true object is unknown."""
    first, second, third, *_ = tiny_requests()
    neighbor = "Hal lives in"
    return [
        first,
        second.model_copy(
            update={
                "target_new": said_by(MODEL, second.rewrite_prompt, 2),
                "target_true": said_by(MODEL, neighbor, 1),
                "neighborhood_prompts": (neighbor, "Ada", "the"),
            }
        ),
        third.model_copy(update={"target_true": None}),
        third.model_copy(update={"paraphrase_prompts": (), "neighborhood_prompts": ()}),
    ]


def test_cases_are_those_of_one_prompt_at_a_time() -> None:
    """In the order of the requests, under the names of MEMIT's files."""
    requests = evaluated_requests()
    cases: list[Any] = evaluate_requests(MODEL, requests)
    for case, request in zip(cases, requests, strict=True):
        expected = naive_case(request)
        assert case["case_id"] == expected["case_id"]
        for field, values in expected["post"].items():
            found = case["post"][field]
            if field.endswith("_correct"):
                assert found == values
                continue
            assert len(found) == len(values)
            for mine, theirs in zip(found, values, strict=True):
                assert mine == pytest.approx(theirs, rel=ROUNDING)
    assert cases[1]["post"]["rewrite_prompts_correct"] == [True]
    assert cases[1]["post"]["neighborhood_prompts_correct"][0] is True
    assert cases[2]["post"]["neighborhood_prompts_correct"] == []


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    """By its request; with its longest answer, 65 tokens."""
    request = tiny_requests(1)[0]
    fits = request.model_copy(update={"paraphrase_prompts": ("the " * 61,)})
    evaluate_requests(MODEL, [fits])
    long = request.model_copy(update={"paraphrase_prompts": ("the " * 62,)})
    with pytest.raises(InputError, match=r"Request 10: .* 65 tokens .* reads 64"):
        evaluate_requests(MODEL, [long])


def case_of(**post: object) -> dict[str, object]:
    """Make a case of some prompts; the other kinds have none."""
    empty: dict[str, object] = {
        f"{kind}_prompts_{field}": []
        for kind in ("rewrite", "paraphrase", "neighborhood")
        for field in ("probs", "correct")
    }
    return {"case_id": 0, "post": empty | post}


def nll(new: float, true: float) -> dict[str, float]:
    """Give likelihoods as a case has them."""
    return {"target_new": -math.log(new), "target_true": -math.log(true)}


def test_metrics_are_their_definitions() -> None:
    """Success and difference favour the new object, for neighbours the true one."""
    case = case_of(
        rewrite_prompts_probs=[nll(0.5, 0.25)],
        rewrite_prompts_correct=[True],
        paraphrase_prompts_probs=[nll(0.5, 0.1), nll(0.2, 0.3)],
        paraphrase_prompts_correct=[True, False],
        neighborhood_prompts_probs=[nll(0.1, 0.6), nll(0.3, 0.2), nll(0.1, 0.2)],
        neighborhood_prompts_correct=[True, False, False],
    )
    means = sum_cases([case]).means()
    assert means == pytest.approx(
        {
            "rewrite_success": 100,
            "rewrite_diff": 0.25,
            "rewrite_acc": 100,
            "paraphrase_success": 50,
            "paraphrase_diff": (0.4 - 0.1) / 2,
            "paraphrase_acc": 50,
            "neighborhood_success": 200 / 3,
            "neighborhood_diff": (0.5 - 0.1 + 0.1) / 3,
            "neighborhood_acc": 100 / 3,
            "score": 3 / (1 / 100 + 1 / 50 + 3 / 200),
        },
        rel=1e-6,
    )


def test_means_are_taken_inside_a_case_first() -> None:
    """A case with many prompts counts as much as one with few."""
    one = case_of(paraphrase_prompts_probs=[nll(0.5, 0.1)])
    four = case_of(paraphrase_prompts_probs=[nll(0.1, 0.5)] * 4)
    assert sum_cases([one, four]).means()["paraphrase_success"] == 50


def test_equal_likelihoods_are_no_success() -> None:
    """Neither for the new object nor for the true one."""
    tie = [nll(0.5, 0.5)]
    case = case_of(rewrite_prompts_probs=tie, neighborhood_prompts_probs=tie)
    means = sum_cases([case]).means()
    assert means["rewrite_success"] == means["neighborhood_success"] == 0


def test_cases_without_a_true_object_have_an_accuracy_alone() -> None:
    """And do not enter the success of the others."""
    bare = case_of(
        rewrite_prompts_probs=[{"target_new": 0.1}], rewrite_prompts_correct=[True]
    )
    full = case_of(
        rewrite_prompts_probs=[nll(0.1, 0.5)], rewrite_prompts_correct=[False]
    )
    assert sum_cases([bare]).means() == {"rewrite_acc": 100}
    means = sum_cases([bare, full]).means()
    assert (means["rewrite_acc"], means["rewrite_success"]) == (50, 0)
    assert "score" not in means


def test_paraphrases_are_also_counted_by_direction() -> None:
    """Whether they begin with the subject, as the rewrite prompt does or does not."""
    request = EditRequest(
        case_id=0,
        prompt="{} works for",
        subject="Ada",
        target_new=said_by(MODEL, "Ada lives", 1),
        target_true="Oslo",
        paraphrase_prompts=("Ada lives", "the employer of Ada is", "Ada , who"),
    )
    (case,) = evaluate_requests(MODEL, [request])
    post: Any = case["post"]
    assert post["paraphrase_prompts_same_direction"] == [True, False, True]
    won = [p["target_new"] < p["target_true"] for p in post["paraphrase_prompts_probs"]]
    means = sum_cases([case]).means()
    same = means["paraphrase_success.same_direction"]
    assert same == pytest.approx(100 * (won[0] + won[2]) / 2)
    assert means["paraphrase_success.other_direction"] == 100 * won[1]
    turned = request.model_copy(update={"prompt": "the mother of {}"})
    (case,) = evaluate_requests(MODEL, [turned])
    post = case["post"]
    assert post["paraphrase_prompts_same_direction"] == [False, True, False]


def test_metrics_of_parties_are_those_of_their_union() -> None:
    """Of real cases, some of which lack a metric."""
    cases = evaluate_requests(MODEL, evaluated_requests())
    together, split = sum_cases(cases), sum_cases(cases[:1]) + sum_cases(cases[1:])
    assert split.counts == together.counts
    assert split.means() == pytest.approx(together.means())
    assert together.counts["rewrite_acc"] == 4
    assert together.counts["rewrite_success"] == 3
    assert together.counts["paraphrase_success"] == 2


def naive_hits(prompt: str, answer: str) -> list[bool]:
    """Ask for each token of an answer after those before it, as MEMIT does."""
    row, hits = list(tokenize_text(MODEL.tokenizer, prompt).ids), []
    for token in tokenize_target(MODEL.tokenizer, answer):
        scores = MODEL.model(input_ids=torch.tensor([row])).logits[0, -1]
        hits.append(int(scores.argmax()) == token)
        row.append(token)
    return hits


def half_right(prompt: str) -> str:
    """Give an answer whose first token alone is right."""
    return f"{said_by(MODEL, prompt, 1)} Oslo"


def asked_request() -> EditRequest:
    """Make a request with questions, some of several answers."""
    return EditRequest(
        case_id=3,
        prompt="who is the mother of {} ?",
        subject="Ada Lovelace",
        target_new=half_right("who is the mother of Ada Lovelace ?"),
        paraphrase_prompts=("the mother of Ada is", "Ada ,"),
        locality=(
            Question(prompt="Hal lives in", answers=(half_right("Hal lives in"),)),
            Question(
                prompt="the harp", answers=("Lima", said_by(MODEL, "the harp", 2))
            ),
        ),
        portability=(Question(prompt="Ben was born at", answers=("Acme Works",)),),
    )


def test_tokens_of_answers_are_counted_one_by_one() -> None:
    """The mean inside a prompt, the best of several answers, then over prompts."""
    request = asked_request()
    (case,) = evaluate_requests(MODEL, [request])
    post: Any = case["post"]
    new = request.target_new
    assert post["rewrite_prompts_token_correct"] == [
        naive_hits(request.rewrite_prompt, new)
    ]
    assert post["rewrite_prompts_token_correct"] == [[True, False]]
    assert post["paraphrase_prompts_token_correct"] == [
        naive_hits(prompt, new) for prompt in request.paraphrase_prompts
    ]
    assert post["locality_questions_correct"] == [[True, False], [True, True]]
    assert post["portability_questions_correct"] == [
        naive_hits("Ben was born at", "Acme Works")
    ]
    means = sum_cases([case]).means()
    assert means["rewrite_token_acc"] == 50
    assert means["rewrite_acc"] == 0
    assert means["locality_acc"] == 75
    assert "neighborhood_token_acc" not in means
    assert "score" not in means


def test_locality_is_unchanged_where_two_models_predict_the_same() -> None:
    """Token for token, whether they are right or wrong."""
    request, other = asked_request(), tiny_model()
    with torch.no_grad():
        other.model.get_parameter("transformer.ln_f.weight").neg_()
    before = predict_locality(MODEL, [request])
    (same,) = evaluate_requests(MODEL, [request], before=before)
    (case,) = evaluate_requests(other, [request], before=before)
    assert sum_cases([same]).means()["locality_unchanged"] == 100
    after = predict_locality(other, [request])
    shares = [
        sum(a == b for a, b in zip(old, new, strict=True)) / len(old)
        for old, new in zip(before[0], after[0], strict=True)
    ]
    found = sum_cases([case]).means()["locality_unchanged"]
    assert found == pytest.approx(100 * sum(shares) / 2)
    assert found < 100
    (unasked,) = evaluate_requests(MODEL, [request])
    assert "locality_unchanged" not in sum_cases([unasked]).means()


def test_attribute_prompts_favour_the_new_object() -> None:
    """If they are asked for, and without a say in the score."""
    request = tiny_requests(1)[0].model_copy(
        update={"attribute_prompts": ("Ben works for", "Gus ,")}
    )
    (plain,) = evaluate_requests(MODEL, [request])
    (case,) = evaluate_requests(
        MODEL, [request], EvaluationConfig(attribute_prompts=True)
    )
    post: Any = case["post"]
    assert "attribute_prompts_probs" not in plain["post"]  # type: ignore[operator]
    probs = post["attribute_prompts_probs"]
    for prompt, found in zip(request.attribute_prompts, probs, strict=True):
        for name, text in (("new", "Acme Works Group"), ("true", "Acme Inc")):
            item = Continuation(
                tokenize_text(MODEL.tokenizer, prompt),
                tokenize_target(MODEL.tokenizer, text),
            )
            expected, _ = naive_likelihood(MODEL, item)
            assert found[f"target_{name}"] == pytest.approx(expected, rel=ROUNDING)
    means, old = sum_cases([case]).means(), sum_cases([plain]).means()
    wins = [each["target_new"] < each["target_true"] for each in probs]
    assert means["attribute_success"] == 100 * sum(wins) / 2
    assert {name: means[name] for name in old} == pytest.approx(old)


def test_equal_objects_count_in_accuracies_and_in_no_success() -> None:
    """Their likelihoods are equal, so that a success would always be missed."""
    first, second = tiny_requests()[:2]
    equal = first.model_copy(update={"target_true": f" {first.target_new}. "})
    assert equal.objects_agree
    cases = evaluate_requests(MODEL, [equal, second])
    plain = evaluate_requests(MODEL, [second])
    found, of_second = sum_cases(cases), sum_cases(plain)
    for kind in ("rewrite", "paraphrase", "neighborhood"):
        for name in (f"{kind}_success", f"{kind}_diff"):
            assert found.counts[name] == 1
            assert found.sums[name] == pytest.approx(of_second.sums[name])
        assert found.counts[f"{kind}_acc"] == 2
    assert not any("direction" in name for name in sum_cases(cases[:1]).sums)


def test_what_follows_a_prompt_is_evaluated_as_running_text() -> None:
    """A space at a prompt's end changes nothing, for targets and for answers."""
    request = asked_request()
    spaced = request.model_copy(
        update={
            "prompt": f"{request.prompt} ",
            "paraphrase_prompts": tuple(f"{p} " for p in request.paraphrase_prompts),
            "neighborhood_prompts": tuple(
                f"{p} " for p in request.neighborhood_prompts
            ),
            "locality": tuple(
                q.model_copy(update={"prompt": f"{q.prompt} "})
                for q in request.locality
            ),
        }
    )
    assert evaluate_requests(MODEL, [spaced]) == evaluate_requests(MODEL, [request])


def test_a_case_keeps_the_name_that_its_source_has_for_it() -> None:
    """Where it is a text; a number is the case's own."""
    request = tiny_requests()[0]
    named = request.model_copy(update={"case_name": "Q42_P108"})
    (case,) = evaluate_requests(MODEL, [named])
    (plain,) = evaluate_requests(MODEL, [request])
    assert case == {**plain, "case_name": "Q42_P108"}
