"""MEMIT's targets by their definition: one request at a time, nothing shared.

The tests hold `editing.memit.targets` to it, and `benchmarks/targets.py` races it.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from editing.hyperparameters.config import Hyperparameters
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest


@dataclass(frozen=True)
class NaiveTarget:
    """A target, and how the search for it went.

    Attributes:
        target: ``z = h + δ``.
        shift: ``δ``.
        losses: Of every evaluation.
        clamps: Steps after which ``δ`` had to be shortened.
    """

    target: Tensor
    shift: Tensor
    losses: list[float]
    clamps: int


@dataclass(frozen=True)
class _Prompts:
    """A request's rewriting prompts, each with its answer, and then the KL prompt."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    subjects: Tensor


def naive_target(
    model: EditableModel,
    request: EditRequest,
    templates: Sequence[str],
    parameters: Hyperparameters,
    rest: float = 0.05,
    top_1: int | None = None,
) -> NaiveTarget:
    """Find one request's target by running the whole model at every step.

    It ends once the loss is below `rest`, and with `top_1` also at the evaluation after
    so many at which every token of the answer was the likeliest in all prompts.
    """
    prompts = _prompts_of(model, request, templates)
    with torch.no_grad():
        start = _run(model, prompts, None, parameters)[2][0, prompts.subjects[0]]
    shift = torch.zeros_like(start).requires_grad_()
    adam = torch.optim.Adam([shift], lr=parameters.v_lr)
    largest = parameters.clamp_norm_factor * start.norm()
    before: Tensor | None = None
    losses, clamps, right = [], 0, 0
    for step in range(parameters.v_num_grad_steps):
        adam.zero_grad()
        read, final, _ = _run(model, prompts, shift, parameters)
        now = final[-1, prompts.subjects[-1]].log_softmax(dim=-1)
        before = now.detach() if before is None else before
        loss = (
            _answer_loss(read[:-1], prompts.labels[:-1])
            + parameters.kl_factor
            * kl_div(before, now, reduction="sum", log_target=True)
            + parameters.v_weight_decay * shift.norm() / start.norm() ** 2
        )
        losses.append(loss.item())
        right += _is_likeliest(read[:-1], prompts.labels[:-1])
        done = loss.item() < rest or (top_1 is not None and right > top_1)
        if done or step == parameters.v_num_grad_steps - 1:
            break
        loss.backward()
        adam.step()
        with torch.no_grad():
            if shift.norm() > largest:
                shift.mul_(largest / shift.norm())
                clamps += 1
    return NaiveTarget(start + shift.detach(), shift.detach(), losses, clamps)


def naive_answer_loss(
    model: EditableModel,
    request: EditRequest,
    templates: Sequence[str],
    parameters: Hyperparameters,
    shift: Tensor,
) -> float:
    """Compute the first term of a target's loss at a shift."""
    prompts = _prompts_of(model, request, templates)
    read, _, _ = _run(model, prompts, shift, parameters)
    return _answer_loss(read[:-1], prompts.labels[:-1]).item()


def _answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over prompts of the mean over the answer's tokens."""
    each = cross_entropy(logits[:, :-1].mT, labels[:, 1:], reduction="none")
    counted = labels[:, 1:] != -100
    return ((each * counted).sum(dim=1) / counted.sum(dim=1)).mean()


def _is_likeliest(logits: Tensor, labels: Tensor) -> bool:
    """Whether the answer's tokens are the likeliest wherever one is to be said."""
    said, wanted = logits[:, :-1].argmax(dim=-1), labels[:, 1:]
    return bool((said == wanted)[wanted != -100].all())


def _prompts_of(
    model: EditableModel, request: EditRequest, templates: Sequence[str]
) -> _Prompts:
    tokenizer = model.tokenizer
    answer = tokenizer(f" {request.target_new}", add_special_tokens=False)["input_ids"]
    bare_first = sorted(templates, key=lambda template: template != "{}")
    texts = [template.replace("{}", request.prompt) for template in bare_first]
    texts.append("{} is a")
    rows, labels, subjects = [], [], []
    for text in texts:
        begun = text[: text.index("{}")] + request.subject
        ids = tokenizer(text.replace("{}", request.subject))["input_ids"]
        says = answer if text != "{} is a" else []
        subjects.append(len(tokenizer(begun)["input_ids"]) - 1)
        rows.append([*ids, *says])
        labels.append([*[-100] * len(ids), *says])
    width = max(map(len, rows))
    return _Prompts(
        torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        torch.tensor([row + [-100] * (width - len(row)) for row in labels]),
        torch.tensor(subjects),
    )


def _run(
    model: EditableModel,
    prompts: _Prompts,
    shift: Tensor | None,
    parameters: Hyperparameters,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the scores that the answers are read from, the last ones, and ``h``."""
    layer = parameters.layers[-1]
    last = model.block_count - 1
    loss_layer = last if parameters.v_loss_layer is None else parameters.v_loss_layer
    loss_layer = max(loss_layer, layer)
    seen: dict[str, Tensor] = {}

    def add(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> object:
        hidden = output if isinstance(output, Tensor) else output[0]
        seen["edited"] = hidden
        if shift is None:
            return output
        changed = hidden.clone()
        changed[torch.arange(len(changed)), prompts.subjects] += shift
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> None:
        seen["read"] = output if isinstance(output, Tensor) else output[0]

    with ExitStack() as hooks:
        for place, hook in ((layer, add), (loss_layer, keep)):
            handle = model.block(place).register_forward_hook(hook)
            hooks.callback(handle.remove)
        final = model.model(
            input_ids=prompts.input_ids, attention_mask=prompts.attention_mask
        ).logits
    read = final if loss_layer == last else model.logits(seen["read"])
    return read, final, seen["edited"]
