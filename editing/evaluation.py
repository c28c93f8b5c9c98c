"""Evaluation: does the model say what was asked, and nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.architectures import EditableModel
from editing.metrics import KINDS, MetricSums
from editing.prompts import (
    TokenRow,
    batches_by_length,
    check_length,
    pad_rows,
    tokenize_target,
    tokenize_text,
)
from editing.requests import EditRequest


@dataclass(frozen=True, slots=True)
class Continuation:
    """A prompt followed by an answer, in tokens."""

    prompt: TokenRow
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How the model takes one continuation.

    Attributes:
        nll: Mean negative log-likelihood of the answer's tokens, in nats.
        correct: Whether every token of the answer is the most likely one.
    """

    nll: float
    correct: bool


def judge(
    model: EditableModel,
    continuations: Sequence[Continuation],
    batch_size: int = 256,
    on_batch: Callable[[int], None] | None = None,
) -> list[Judgement]:
    """Judge continuations in batches of similar length.

    Rows are padded on the right, where causal attention does not look, and only the
    answer's positions reach the vocabulary head.
    """
    rows = [item.prompt.followed_by(item.answer[:-1]) for item in continuations]
    found: dict[int, Judgement] = {}
    for indices in batches_by_length(rows, batch_size):
        batch = [continuations[index] for index in indices]
        found.update(zip(indices, _judge_batch(model, batch), strict=True))
        if on_batch is not None:
            on_batch(len(found))
    return [found[index] for index in range(len(rows))]


@torch.no_grad()
def _judge_batch(
    model: EditableModel, batch: Sequence[Continuation]
) -> list[Judgement]:
    padded = pad_rows(
        [item.prompt.followed_by(item.answer[:-1]) for item in batch], model.device
    )
    places = [
        (row, len(item.prompt.ids) - 1 + offset, token)
        for row, item in enumerate(batch)
        for offset, token in enumerate(item.answer)
    ]
    rows, columns, tokens = torch.tensor(places, device=model.device).unbind(dim=1)
    states: Tensor = model.model.base_model(
        input_ids=padded.input_ids,
        attention_mask=padded.attention_mask,
        use_cache=False,
    )[0]
    scores = model.head(states[rows, columns])
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores.log_softmax(dim=-1)
    nll = -scores.gather(1, tokens.unsqueeze(1)).squeeze(1)
    hits = scores.argmax(dim=-1) == tokens
    sizes = [len(item.answer) for item in batch]
    return [
        Judgement(float(costs.double().mean()), bool(hit.all()))
        for costs, hit in zip(
            torch.split(nll, sizes), torch.split(hits, sizes), strict=True
        )
    ]


def evaluate_requests(
    model: EditableModel,
    requests: Sequence[EditRequest],
    on_batch: Callable[[int], None] | None = None,
) -> list[dict[str, object]]:
    """Judge each request's prompts and write them as MEMIT's case files do.

    Each case holds ``{kind}_prompts_probs``, a list of negative log-likelihoods of
    ``target_new`` and, if known, ``target_true``, and ``{kind}_prompts_correct``,
    whether the new object (for neighbourhood prompts the true one) is the most likely.
    A prompt that does not fit the model's context is an `InputError`.
    """
    work: list[Continuation] = []
    for request in requests:
        for prompts in _prompts_of(request).values():
            work += _continuations(model, request, prompts)
    judgements = iter(judge(model, work, on_batch=on_batch))
    return [_case_of(request, judgements) for request in requests]


def _prompts_of(request: EditRequest) -> dict[str, tuple[str, ...]]:
    return {
        "rewrite": (request.rewrite_prompt,),
        "paraphrase": request.paraphrase_prompts,
        "neighborhood": request.neighborhood_prompts,
    }


def _objects_of(request: EditRequest) -> dict[str, str]:
    objects = {"target_new": request.target_new}
    if request.target_true is not None:
        objects["target_true"] = request.target_true
    return objects


def _continuations(
    model: EditableModel, request: EditRequest, prompts: Sequence[str]
) -> list[Continuation]:
    rows = [tokenize_text(model.tokenizer, prompt) for prompt in prompts]
    answers = [
        tokenize_target(model.tokenizer, text) for text in _objects_of(request).values()
    ]
    for row in rows:
        check_length(model, row.followed_by(max(answers, key=len)), request)
    return [Continuation(row, answer) for row in rows for answer in answers]


def _case_of(
    request: EditRequest, judgements: Iterator[Judgement]
) -> dict[str, object]:
    post: dict[str, object] = {}
    objects = list(_objects_of(request))
    for kind, prompts in _prompts_of(request).items():
        wanted = "target_true" if kind == "neighborhood" else "target_new"
        found = [{name: next(judgements) for name in objects} for _ in prompts]
        post[f"{kind}_prompts_probs"] = [
            {name: judged.nll for name, judged in each.items()} for each in found
        ]
        post[f"{kind}_prompts_correct"] = [
            each[wanted].correct for each in found if wanted in each
        ]
    post["paraphrase_prompts_same_direction"] = [
        prompt.startswith(request.subject) == request.prompt.startswith("{}")
        for prompt in request.paraphrase_prompts
    ]
    return {"case_id": request.case_id, "post": post}


def sum_cases(cases: Sequence[Mapping[str, object]]) -> MetricSums:
    """Reduce cases to sums of their metrics."""
    total = MetricSums()
    for case in cases:
        post = case["post"]
        assert isinstance(post, Mapping)
        metrics = {k: v for kind in KINDS for k, v in _case_metrics(post, kind).items()}
        metrics |= _direction_metrics(post)
        total = total + MetricSums(metrics, dict.fromkeys(metrics, 1))
    return total


def _case_metrics(post: Mapping[str, object], kind: str) -> dict[str, float]:
    probs, correct = post[f"{kind}_prompts_probs"], post[f"{kind}_prompts_correct"]
    assert isinstance(probs, list)
    assert isinstance(correct, list)
    metrics: dict[str, float] = {}
    sign = -1 if kind == "neighborhood" else 1
    gaps = [
        sign * (each["target_true"] - each["target_new"])
        for each in probs
        if "target_true" in each
    ]
    if gaps:
        magnitudes = [_probability_gap(each, sign) for each in probs]
        metrics[f"{kind}_success"] = sum(gap > 0 for gap in gaps) / len(gaps)
        metrics[f"{kind}_diff"] = sum(magnitudes) / len(magnitudes)
    if correct:
        metrics[f"{kind}_acc"] = sum(correct) / len(correct)
    return metrics


def _direction_metrics(post: Mapping[str, object]) -> dict[str, float]:
    """Paraphrase success apart for phrasings of the rewrite prompt's direction.

    A prompt's direction is whether it begins with the subject: a model that was told
    the relation before the name may look the name up under another key.
    """
    probs = post["paraphrase_prompts_probs"]
    same = post.get("paraphrase_prompts_same_direction", [])
    assert isinstance(probs, list)
    assert isinstance(same, list)
    wins: dict[bool, list[bool]] = {True: [], False: []}
    for each, direction in zip(probs, same, strict=False):
        if "target_true" in each:
            wins[direction].append(each["target_true"] > each["target_new"])
    names = {
        True: "paraphrase_success.same_direction",
        False: "paraphrase_success.other_direction",
    }
    return {names[way]: sum(won) / len(won) for way, won in wins.items() if won}


def _probability_gap(probs: Mapping[str, float], sign: int) -> float:
    new, true = torch.exp(-torch.tensor([probs["target_new"], probs["target_true"]]))
    return sign * float(new - true)
