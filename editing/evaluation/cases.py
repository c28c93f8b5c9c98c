"""Evaluation: does the model produce the new targets, and is the rest unchanged?

Three successes are the field's measures of an edit: efficacy (ES) at the rewrite
prompt, generalization (PS) at paraphrases, and specificity (NS) at neighbourhood
prompts, which are about other subjects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from editing.evaluation.answers import answer_metrics
from editing.evaluation.config import EvaluationConfig
from editing.evaluation.likelihoods import Continuation, Likelihood, compute_likelihoods
from editing.evaluation.metrics import (
    GENERATED,
    KINDS,
    MetricSums,
    measure_success,
)
from editing.evaluation.token_accuracy import (
    QUESTIONS,
    asks_questions,
    hits_of,
    question_metrics,
    same_tokens,
)
from editing.models.chat_prompts import warn_of_chat_prompts
from editing.models.loading import EditableModel
from editing.models.token_rows import ContinuationTokenizer, check_length
from editing.requests.edit_request import EditRequest
from editing.requests.forms.benchmarks import TEACHER_FORCED

CaseRecord = dict[str, object]
"""What a case file holds of one request, by MEMIT's names."""


@dataclass(frozen=True, slots=True)
class EvaluationPrompt:
    """One prompt that evaluates a request.

    Attributes:
        kind: What it is about: ``rewrite``, ``paraphrase`` and so on.
        prompt: A finished text.
        answers: What may follow.
    """

    kind: str
    prompt: str
    answers: tuple[str, ...]


def evaluate_requests(
    model: EditableModel,
    requests: Sequence[EditRequest],
    config: EvaluationConfig | None = None,
    *,
    before: Sequence[Sequence[tuple[int, ...]]] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[CaseRecord]:
    """Evaluate each request's prompts and write them as MEMIT's case files do.

    Each case holds ``{kind}_prompts_probs``, a list of negative log-likelihoods of
    ``target_new`` and, if known, ``target_true``, and ``{kind}_prompts_correct``,
    whether the new object (for neighbourhood prompts the true one) is the most likely.
    Where requests have questions, or no true object, single tokens are counted as well:
    see `editing.evaluation.token_accuracy`. A request whose two objects are equal is
    marked with ``objects_agree``. Texts are not generated here: see
    `editing.evaluation.generated_texts`. A prompt that does not fit the model's
    context is an `InputError`.

    Args:
        model: What is evaluated.
        requests: The requests to evaluate.
        config: What it is evaluated by; prompts that a request lacks are left out.
        before: For each request, what the unedited model predicts at its questions of
            locality, as `predict_locality` returns it, for ``locality_unchanged``.
        on_batch: Called after each batch with the number of continuations evaluated.
    """
    chosen = config or EvaluationConfig()
    warn_of_chat_prompts(model.tokenizer, requests)
    asked = [evaluation_prompts(request, chosen) for request in requests]
    work = _continuations(model, requests, asked)
    likelihoods = iter(compute_likelihoods(model, work, on_batch=on_batch))
    cases = []
    for number, (request, prompts) in enumerate(zip(requests, asked, strict=True)):
        found = [[next(likelihoods) for _ in each.answers] for each in prompts]
        old = before[number] if before is not None else None
        cases.append(_case_of(request, prompts, found, old))
    return cases


def predict_locality(
    model: EditableModel, requests: Sequence[EditRequest]
) -> list[list[tuple[int, ...]]]:
    """For each request, the tokens that a model predicts at its questions of locality.

    In the place of each question's first answer, given its tokens, as EasyEdit
    compares a model before and after an edit.
    """
    asked = [
        [
            EvaluationPrompt("locality", each.prompt, each.answers[:1])
            for each in request.locality
        ]
        for request in requests
    ]
    work = _continuations(model, requests, asked)
    likelihoods = iter(compute_likelihoods(model, work))
    return [[next(likelihoods).predicted for _ in prompts] for prompts in asked]


def evaluation_prompts(
    request: EditRequest, config: EvaluationConfig
) -> list[EvaluationPrompt]:
    """List all prompts that evaluate a request, each with what may follow it."""
    kinds = {
        "rewrite": (request.rewrite_prompt,),
        "paraphrase": request.paraphrase_prompts,
        "neighborhood": request.neighborhood_prompts,
    }
    if config.attribute_prompts:
        kinds["attribute"] = request.attribute_prompts
    objects = tuple(_objects_of(request).values())
    questions = {"locality": request.locality, "portability": request.portability}
    return [
        *(
            EvaluationPrompt(kind, text, objects)
            for kind, texts in kinds.items()
            for text in texts
        ),
        *(
            EvaluationPrompt(kind, question.prompt, question.answers)
            for kind, each in questions.items()
            for question in each
        ),
        *(
            EvaluationPrompt(each.kind, each.prompt, each.answers)
            for each in request.benchmark_questions
            if each.kind in TEACHER_FORCED
        ),
    ]


def _objects_of(request: EditRequest) -> dict[str, str]:
    objects = {"target_new": request.target_new}
    if request.target_true is not None:
        objects["target_true"] = request.target_true
    return objects


def _continuations(
    model: EditableModel,
    requests: Sequence[EditRequest],
    asked: Sequence[Sequence[EvaluationPrompt]],
) -> list[Continuation]:
    """Join every prompt with its answers, each text tokenized once."""
    pairs = [
        (request, each.prompt, answer)
        for request, prompts in zip(requests, asked, strict=True)
        for each in prompts
        for answer in each.answers
    ]
    texts = [(prompt, answer, each.target_space) for each, prompt, answer in pairs]
    tokenized = ContinuationTokenizer(model.tokenizer).join(texts)
    for (request, _, _), (row, ids) in zip(pairs, tokenized, strict=True):
        check_length(model, row.followed_by(ids), request)
    return [Continuation(row, ids) for row, ids in tokenized]


def _case_of(
    request: EditRequest,
    asked: Sequence[EvaluationPrompt],
    evaluated: Sequence[Sequence[Likelihood]],
    before: Sequence[tuple[int, ...]] | None,
) -> CaseRecord:
    by_kind: dict[str, list[Sequence[Likelihood]]] = {kind: [] for kind in KINDS}
    for each, found in zip(asked, evaluated, strict=True):
        by_kind.setdefault(each.kind, []).append(found)
    post: CaseRecord = {}
    for kind, prompts in by_kind.items():
        if kind in QUESTIONS:
            post[f"{kind}_questions_correct"] = [hits_of(each) for each in prompts]
        else:
            post |= _fields_of(request, kind, prompts)
    post["paraphrase_prompts_same_direction"] = [
        prompt.startswith(request.subject) == request.prompt.startswith("{}")
        for prompt in (request.paraphrase_prompts if request.subject else ())
    ]
    if before is not None and "locality" in by_kind:
        now = [first.predicted for first, *_ in by_kind["locality"]]
        pairs = zip(before, now, strict=True)
        post["locality_questions_unchanged"] = [same_tokens(*pair) for pair in pairs]
    if request.objects_agree:
        post["objects_agree"] = True
    named = {"case_name": request.case_name} if request.case_name else {}
    return {"case_id": request.case_id, **named, "post": post}


def _fields_of(
    request: EditRequest, kind: str, prompts: Sequence[Sequence[Likelihood]]
) -> CaseRecord:
    """Write the likelihoods of the request's objects after each prompt."""
    objects = list(_objects_of(request))
    wanted = "target_true" if kind == "neighborhood" else "target_new"
    named = [dict(zip(objects, each, strict=True)) for each in prompts]
    asked = [each[wanted] for each in named if wanted in each]
    fields: CaseRecord = {
        f"{kind}_prompts_probs": [
            {name: evaluated.nll for name, evaluated in each.items()} for each in named
        ],
        f"{kind}_prompts_correct": [evaluated.correct for evaluated in asked],
    }
    if kind in KINDS and asks_questions(request):
        fields[f"{kind}_prompts_token_correct"] = [list(each.hits) for each in asked]
    return fields


def sum_cases(cases: Sequence[Mapping[str, object]]) -> MetricSums:
    """Reduce cases to sums of their metrics; what a case lacks gives none.

    ``{kind}_success`` is the share of a case's prompts where the right object is more
    likely than the other one: the new one for ``rewrite`` (efficacy, ES) and
    ``paraphrase`` (generalization, PS), the true one for ``neighborhood`` (specificity,
    NS). ``{kind}_diff`` is the mean difference of their probabilities. Where the two
    objects are equal there is neither. ``{kind}_acc`` is the share of prompts where the
    right object is the most likely continuation.
    """
    total = MetricSums()
    for case in cases:
        post = case["post"]
        assert isinstance(post, Mapping)
        kinds = (*KINDS, "attribute")
        metrics = {k: v for kind in kinds for k, v in _case_metrics(post, kind).items()}
        metrics |= _direction_metrics(post) | question_metrics(post)
        metrics |= answer_metrics(post)
        metrics |= {name: float(post[name]) for name in GENERATED if name in post}
        total = total + MetricSums(metrics, dict.fromkeys(metrics, 1))
    return total


def _case_metrics(post: Mapping[str, object], kind: str) -> dict[str, float]:
    probs = post.get(f"{kind}_prompts_probs", [])
    correct = post.get(f"{kind}_prompts_correct", [])
    assert isinstance(probs, list)
    assert isinstance(correct, list)
    metrics: dict[str, float] = {}
    sign = -1 if kind == "neighborhood" else 1
    success = measure_success(post, kind)
    if success is not None:
        magnitudes = [_probability_gap(each, sign) for each in probs]
        metrics[f"{kind}_success"] = success
        metrics[f"{kind}_diff"] = sum(magnitudes) / len(magnitudes)
    if correct:
        metrics[f"{kind}_acc"] = sum(correct) / len(correct)
    return metrics


def _direction_metrics(post: Mapping[str, object]) -> dict[str, float]:
    """Paraphrase success apart for phrasings of the rewrite prompt's direction.

    A prompt's direction is whether it begins with the subject: a model that reads the
    relation before the name may look the name up under another key.
    """
    probs = post.get("paraphrase_prompts_probs", [])
    same = post.get("paraphrase_prompts_same_direction", [])
    assert isinstance(probs, list)
    assert isinstance(same, list)
    wins: dict[bool, list[bool]] = {True: [], False: []}
    for each, direction in zip(probs, same, strict=False):
        if "target_true" in each and not post.get("objects_agree"):
            wins[direction].append(each["target_true"] > each["target_new"])
    names = {
        True: "paraphrase_success.same_direction",
        False: "paraphrase_success.other_direction",
    }
    return {names[way]: sum(won) / len(won) for way, won in wins.items() if won}


def _probability_gap(probs: Mapping[str, float], sign: int) -> float:
    new, true = torch.exp(-torch.tensor([probs["target_new"], probs["target_true"]]))
    return sign * float(new - true)
