"""Laws of accuracies by token, and records in the published forms."""

from pathlib import Path
from typing import Any

import pytest
import torch

from editing.evaluation.cases import evaluate_requests, sum_cases
from editing.evaluation.likelihoods import Likelihood
from editing.evaluation.token_accuracy import (
    asks_questions,
    hits_of,
    question_metrics,
    same_tokens,
)
from editing.models.loading import load_editable_model
from editing.requests.edit_request import (
    EditRequest,
    Question,
    parse_request,
    read_requests,
)
from editing.requests.forms.benchmarks import TEACHER_FORCED
from tests.editing.records import FILES, WIKIBIGEDIT, both, find
from tests.tiny import tiny_model


def likelihood(*hits: bool) -> Likelihood:
    """Make a likelihood of these hits."""
    return Likelihood(0.0, tuple(range(len(hits))), hits)


def test_of_several_answers_the_best_counts() -> None:
    """By its share, and not by its number of tokens."""
    some, whole = likelihood(True, True, False), likelihood(True)
    assert hits_of([some, whole]) == [True]
    assert hits_of([some, likelihood(False)]) == [True, True, False]


def test_shares_are_taken_inside_a_prompt_first() -> None:
    """A long answer counts as much as a short one; what is missing gives none."""
    post = {
        "rewrite_prompts_token_correct": [[True, False], [True]],
        "locality_questions_correct": [[False, False, False, True]],
        "locality_questions_unchanged": [[True] * 4],
        "portability_questions_correct": [],
    }
    assert question_metrics(post) == {
        "rewrite_token_acc": 0.75,
        "locality_acc": 0.25,
        "locality_unchanged": 1.0,
    }


def test_tokens_are_compared_in_their_places() -> None:
    """Of two predictions of equal length."""
    assert same_tokens((1, 2, 3), (1, 3, 3)) == [True, False, True]


def test_questions_are_distinguished_from_counterfact() -> None:
    """By questions of their own, or by a missing true object."""
    request = EditRequest(
        case_id=0, prompt="{} is", subject="Ada", target_new="a", target_true="b"
    )
    asked = (Question(prompt="the", answers=("a",)),)
    assert not asks_questions(request)
    assert asks_questions(request.model_copy(update={"target_true": None}))
    assert asks_questions(request.model_copy(update={"locality": asked}))
    assert asks_questions(request.model_copy(update={"portability": asked}))


@pytest.mark.parametrize("name", both("zsre_mend"))
def test_zsre_is_evaluated_token_for_token(golden: Path, name: str) -> None:
    """Every record, against one forward pass for each token of each answer."""
    model = load_editable_model(str(golden / "model"))
    requests = read_requests(find(name))
    cases: list[Any] = evaluate_requests(model, requests)
    assert len(cases) == FILES[name].count

    def ask(prompt: str, answer: str) -> list[bool]:
        ids, hits = list(model.tokenizer(prompt)["input_ids"]), []
        for token in model.tokenizer(f" {answer.strip()}")["input_ids"]:
            scores = model.model(input_ids=torch.tensor([ids])).logits[0, -1]
            hits.append(int(scores.argmax()) == token)
            ids.append(token)
        return hits

    for request, case in zip(requests, cases, strict=True):
        post, new = case["post"], request.target_new
        (question,) = request.locality
        assert post["rewrite_prompts_token_correct"] == [
            ask(request.rewrite_prompt, new)
        ]
        assert post["paraphrase_prompts_token_correct"] == [
            ask(prompt, new) for prompt in request.paraphrase_prompts
        ]
        assert post["locality_questions_correct"] == [
            ask(question.prompt, question.answers[0])
        ]
    assert {"rewrite_token_acc", "paraphrase_token_acc", "locality_acc"} <= (
        sum_cases(cases).means().keys()
    )


def test_wikibigedit_is_evaluated_as_its_program_does() -> None:
    """Each question as ``Q: … A:``, token for token of its answer, given those before.

    Of several cases the mean counts: of those that have the question.
    """
    model = tiny_model()
    row = model.tokenizer("Q: who is Ada ? A:", return_tensors="pt")["input_ids"]
    known = model.tokenizer.decode(model.model(row).logits[0, -1].argmax())
    whole = {
        **WIKIBIGEDIT,
        "subject": "Ada",
        "update": "who is Ada ?",
        "ans": f"{known} Works Group",
        "mhop_ans": "Oslo Rome",
    }
    records = [whole, {**whole, "ans": "drum", "mhop": None, "mhop_ans": None}]
    cases = evaluate_requests(model, [parse_request(r, "here") for r in records])
    found = sum_cases(cases).means()
    fields = {
        "update": "ans",
        "rephrase": "ans",
        "personas": "ans",
        "mhop": "mhop_ans",
        "loc": "loc_ans",
    }
    for kind, (field, answer) in zip(TEACHER_FORCED, fields.items(), strict=True):
        shares = []
        for record in records:
            if not record[field]:
                continue
            asked = model.tokenizer(f"Q: {record[field]} A:")["input_ids"]
            ids = [*asked, *model.tokenizer(f" {record[answer]}")["input_ids"]]
            scores = model.model(input_ids=torch.tensor([ids])).logits[0]
            said = scores.argmax(dim=-1)[len(asked) - 1 : -1]
            shares.append((said == torch.tensor(ids[len(asked) :])).double().mean())
        assert found[f"{kind}_acc"] == pytest.approx(100 * sum(shares) / len(shares))
    assert 0 < found["wikibigedit_update_acc"] < 100


@pytest.mark.parametrize("name", both("multi_counterfact"))
def test_counterfact_is_evaluated_whole(golden: Path, name: str) -> None:
    """All records, each prompt of each kind."""
    model = load_editable_model(str(golden / "model"))
    requests = read_requests(find(name))
    cases: list[Any] = evaluate_requests(model, requests)
    assert len(cases) == FILES[name].count
    for request, case in zip(requests, cases, strict=True):
        post = case["post"]
        assert len(post["neighborhood_prompts_probs"]) == len(
            request.neighborhood_prompts
        )
        assert len(post["paraphrase_prompts_correct"]) == len(
            request.paraphrase_prompts
        )
        assert "rewrite_prompts_token_correct" not in post
    assert {"rewrite_success", "score"} <= sum_cases(cases).means().keys()
