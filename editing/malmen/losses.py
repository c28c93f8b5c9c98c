"""What training minimises: that edits generalise, and that nothing else changes.

    L = Σ −log p(answer | other wording) / |answer| + w · Σ KL(p₀ ‖ p) / |answer|

over texts: questions about the edits in other words, and prompts about something else,
whose answers' tokens are read on the unedited model too. It is a sum over texts, so the
gradients of parties add up.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from editing.algebra.deltas import stores_transposed
from editing.answers.gradients import run_to_scores
from editing.answers.texts import AnswerText, tokenize_answers
from editing.malmen.sums import LossSums
from editing.models.batching import run_batches
from editing.models.loading import EditableModel
from editing.models.token_rows import order_by_length
from editing.requests.edit_request import EditRequest

BATCH_SIZE = 64
"""Texts that are run at a time."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one party's batch.

    Attributes:
        general: The edits in other words.
        local: Prompts about something else, with the answers that the model gives now.
    """

    general: Sequence[AnswerText]
    local: Sequence[AnswerText]

    @classmethod
    def of_requests(
        cls, model: EditableModel, requests: Sequence[EditRequest]
    ) -> "Texts":
        """Take paraphrases and neighbourhood prompts of requests."""
        general = [
            reworded(request, prompt, request.target_new)
            for request in requests
            for prompt in request.paraphrase_prompts
        ]
        local = [
            reworded(request, prompt, request.target_true)
            for request in requests
            if request.target_true is not None
            for prompt in request.neighborhood_prompts
        ]
        return cls(tokenize_answers(model, general), tokenize_answers(model, local))


def reworded(request: EditRequest, prompt: str, answer: str) -> EditRequest:
    """Return a finished text in the place of a request."""
    change = {"prompt": prompt, "subject": "", "target_new": answer}
    return request.model_copy(update=change)


def read_scores(
    model: EditableModel, texts: Sequence[AnswerText], batch_size: int = BATCH_SIZE
) -> list[Float[Tensor, "_ vocab"]]:
    """Read log-probabilities at the answers' tokens, on the model as it is."""
    found: dict[int, Tensor] = {}

    def read(numbers: Sequence[int]) -> Tensor:
        with torch.no_grad():
            return log_softmax(run_to_scores(model, [texts[n] for n in numbers]), dim=1)

    order = order_by_length([text.row for text in texts])
    for numbers, scores in run_batches(order, batch_size, read):
        sizes = [len(texts[number].answer) for number in numbers]
        found |= zip(numbers, scores.cpu().split(sizes), strict=True)
    return [found[number] for number in range(len(texts))]


def sum_losses(
    model: EditableModel,
    texts: Texts,
    layers: Sequence[int],
    before: Sequence[Float[Tensor, "_ vocab"]],
    local_weight: float = 1.0,
    batch_size: int = BATCH_SIZE,
) -> LossSums:
    """Sum losses and their gradients by the edited weights, on the model as it is.

    Args:
        model: With the batch's update.
        texts: One party's.
        layers: The edited layers.
        before: `read_scores` of the local texts, on the model without the update.
        local_weight: ``w``.
        batch_size: Texts that are run at a time.
    """
    modules = {layer: model.down_projection(layer) for layer in layers}
    zeros = {k: torch.zeros(model.widths(k), dtype=torch.float64) for k in layers}
    total = LossSums(0.0, 0.0, 0, zeros)

    def general(numbers: Sequence[int]) -> LossSums:
        chosen = [texts.general[number] for number in numbers]
        loss = _general_loss(model, chosen)
        found = _differentiate(loss, modules)
        return LossSums(float(loss.detach()), 0.0, len(numbers), found)

    def local(numbers: Sequence[int]) -> LossSums:
        chosen = [texts.local[number] for number in numbers]
        loss = _local_loss(model, chosen, [before[number] for number in numbers])
        found = _differentiate(local_weight * loss, modules)
        return LossSums(0.0, float(loss.detach()), len(numbers), found)

    with _differentiable(modules.values()):
        for own, compute in ((texts.general, general), (texts.local, local)):
            order = order_by_length([text.row for text in own])
            for _, found in run_batches(order, batch_size, compute):
                total += found
    return total


@contextmanager
def _differentiable(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Have gradients of some weights, which have none as a rule."""
    weights = [module.get_parameter("weight") for module in modules]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_()
        yield
    finally:
        for weight, needed in zip(weights, before, strict=True):
            weight.requires_grad_(needed)


def _general_loss(model: EditableModel, texts: Sequence[AnswerText]) -> Tensor:
    with torch.enable_grad():
        scores = run_to_scores(model, texts)
        wanted = torch.tensor([t for text in texts for t in text.answer])
        losses = cross_entropy(scores, wanted.to(scores.device), reduction="none")
        return (losses * _shares(texts, losses)).sum()


def _local_loss(
    model: EditableModel, texts: Sequence[AnswerText], before: Sequence[Tensor]
) -> Tensor:
    with torch.enable_grad():
        now = log_softmax(run_to_scores(model, texts), dim=1)
        then = torch.cat([*before]).to(now)
        losses = kl_div(now, then, reduction="none", log_target=True).sum(dim=1)
        return (losses * _shares(texts, losses)).sum()


def _shares(texts: Sequence[AnswerText], like: Tensor) -> Tensor:
    """Return one over the number of a text's answer tokens, for each of them."""
    shares = [1 / len(text.answer) for text in texts for _ in text.answer]
    return torch.tensor(shares, dtype=like.dtype, device=like.device)


def _differentiate(
    loss: Tensor, modules: Mapping[int, nn.Module]
) -> dict[int, Float[Tensor, "_ _"]]:
    weights = [module.get_parameter("weight") for module in modules.values()]
    found = torch.autograd.grad(loss, weights)
    pairs = zip(modules.items(), found, strict=True)
    return {
        layer: (each.mT if stores_transposed(module) else each).double().cpu()
        for (layer, module), each in pairs
    }
