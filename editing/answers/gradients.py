"""Keys and output gradients of the edited layers at the answers' tokens.

The loss is the **sum** of the cross-entropies of all answers' tokens, so that what is
read of a request is the same whatever it is read with. The published programs take the
mean over a sub-batch's tokens, which makes gradients depend on how requests are cut.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from editing.answers.pairs import AnswerPairs
from editing.answers.texts import AnswerText, tokenize_answers
from editing.models.activations import by_rows, hidden_state, stopping_after
from editing.models.batching import run_batches
from editing.models.editable import check_finite
from editing.models.loading import EditableModel
from editing.models.token_rows import PromptBatch, order_by_length, pad_rows
from editing.requests.edit_request import EditRequest

BATCH_SIZE = 32
"""Texts that are run at a time."""


def read_answers(
    model: EditableModel,
    requests: Sequence[EditRequest],
    layers: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[int, AnswerPairs]:
    """Read keys and output gradients of some layers on the model as it is.

    Texts run in batches of about equal length, padded on the right; each gives what it
    gives alone, to the rounding of the model's precision.

    Args:
        model: The model, with the updates of earlier rounds.
        requests: With a subject or without one.
        layers: Edited blocks, in ascending order.
        weights: Factors of the requests' losses. The mean over a sub-batch is one over
            the number of its answer tokens, for each of its requests.
        batch_size: Texts of a batch, to begin with.

    Returns:
        By layer; of no request, without rows.
    """
    texts = tokenize_answers(model, requests)
    order = order_by_length([text.row for text in texts])
    read = partial(_read_batch, model, texts, layers)
    parts: dict[int, dict[int, tuple[Tensor, Tensor]]] = {k: {} for k in layers}
    for numbers, found in run_batches(order, batch_size, read):
        sizes = [len(texts[number].answer) for number in numbers]
        for layer, (keys, gradients) in found.items():
            rows = zip(keys.split(sizes), gradients.split(sizes), strict=True)
            parts[layer] |= zip(numbers, rows, strict=True)
    factors = weights or [1.0] * len(texts)
    return {layer: _join(model, layer, parts[layer], factors) for layer in layers}


def _join(
    model: EditableModel,
    layer: int,
    parts: Mapping[int, tuple[Tensor, Tensor]],
    factors: Sequence[float],
) -> AnswerPairs:
    """Put a layer's rows in the order of the requests."""
    d_out, d_in = model.widths(layer)
    keys = [torch.zeros(0, d_in, dtype=torch.float64)]
    gradients = [torch.zeros(0, d_out, dtype=torch.float64)]
    for number, factor in enumerate(factors):
        own = parts[number]
        keys.append(own[0])
        gradients.append(factor * own[1])
    return AnswerPairs(torch.cat(keys), torch.cat(gradients))


def _read_batch(
    model: EditableModel,
    texts: Sequence[AnswerText],
    layers: Sequence[int],
    numbers: Sequence[int],
) -> dict[int, tuple[Tensor, Tensor]]:
    """Run some texts forward and back; rows are their answers' tokens, in order."""
    chosen = [texts[number] for number in numbers]
    batch, rows, columns = _lay_out(model, chosen)
    tokens = [token for text in chosen for token in text.answer]
    with torch.enable_grad(), _recording(model, layers) as tape:
        wide = _score(model, batch, tape, rows, columns)
        wanted = torch.tensor(tokens, device=wide.device)
        loss = cross_entropy(wide, wanted, reduction="sum")
        found = torch.autograd.grad(loss, [tape.outputs[layer] for layer in layers])
    check_finite(loss.detach(), "scores of an answer")
    return {
        layer: (
            by_rows(tape.keys[layer], batch)[rows, columns].double().cpu(),
            by_rows(gradient, batch)[rows, columns].double().cpu(),
        )
        for layer, gradient in zip(layers, found, strict=True)
    }


def run_to_scores(
    model: EditableModel, texts: Sequence[AnswerText]
) -> Float[Tensor, "tokens vocab"]:
    """Compute scores at the answers' tokens, text after text, in float32 or wider."""
    batch, rows, columns = _lay_out(model, texts)
    with _recording(model, ()) as tape:
        return _score(model, batch, tape, rows, columns)


def _lay_out(
    model: EditableModel, texts: Sequence[AnswerText]
) -> tuple[PromptBatch, list[int], list[int]]:
    """Pad texts, and list where their answers' tokens are predicted."""
    batch = pad_rows([text.row for text in texts], model.device)
    rows = [row for row, text in enumerate(texts) for _ in text.positions]
    return batch, rows, [place for text in texts for place in text.positions]


def _score(
    model: EditableModel,
    batch: PromptBatch,
    tape: "_Tape",
    rows: Sequence[int],
    columns: Sequence[int],
) -> Tensor:
    _run(model, batch)
    last = by_rows(tape.hidden[0], batch)[rows, columns]
    scores = model.logits(last.to(model.device))
    return scores if scores.dtype == torch.float64 else scores.float()


def _run(model: EditableModel, batch: PromptBatch) -> None:
    with stopping_after(model.block(model.block_count - 1)):
        model.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
        )


@dataclass(frozen=True, slots=True)
class _Tape:
    """What a forward pass leaves: inputs, outputs, the last hidden state."""

    keys: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    hidden: list[Tensor] = field(default_factory=list)


@contextmanager
def _recording(model: EditableModel, layers: Sequence[int]) -> Iterator[_Tape]:
    """Keep what passes the edited projections and leaves the last block.

    Gradients are taken from the first edited projection on: no weight needs one, and
    nothing before it.
    """
    tape, first = _Tape(), min(layers, default=0)
    with ExitStack() as hooks:
        for layer in layers:

            def keep(
                _: nn.Module,
                given: tuple[Tensor, ...],
                output: Tensor,
                layer: int = layer,
            ) -> Tensor:
                leaf = output.detach().requires_grad_() if layer == first else output
                tape.keys[layer], tape.outputs[layer] = given[0].detach(), leaf
                return leaf

            module = model.down_projection(layer)
            hooks.callback(module.register_forward_hook(keep).remove)

        def end(_: nn.Module, __: object, output: Tensor | tuple[Any, ...]) -> None:
            tape.hidden.append(hidden_state(output))

        block = model.block(model.block_count - 1)
        hooks.callback(block.register_forward_hook(end).remove)
        yield tape
