"""Likelihoods: how likely answers are after their prompts.

An answer of ``n`` tokens is read off the row ``prompt + answer[:-1]``, at its last
``n`` positions. What rows begin with in common is run once (see
`editing.models.prefix_tree`): all answers to a prompt, and all prompts of a relation.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from editing.models.editable import check_finite
from editing.models.loading import EditableModel
from editing.models.prefix_tree import PackBatch, run_packs
from editing.models.token_rows import TokenRow

HEAD_POSITIONS = {"cpu": 128}
MAX_HEAD_POSITIONS = 1024
"""Positions that go through the vocabulary head together, by device and elsewhere."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A prompt followed by an answer, in tokens."""

    prompt: TokenRow
    answer: tuple[int, ...]

    @property
    def row(self) -> tuple[int, ...]:
        """The positions whose logits predict each token of the answer."""
        return (*self.prompt.ids, *self.answer[:-1])


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely the model finds one continuation.

    Attributes:
        nll: Mean negative log-likelihood of the answer's tokens, in nats.
        predicted: The most likely token in the place of each of the answer's, given
            the answer's tokens before it.
        hits: Whether that is the answer's token.
    """

    nll: float
    predicted: tuple[int, ...]
    hits: tuple[bool, ...]

    @property
    def correct(self) -> bool:
        """Whether every token of the answer is the most likely one."""
        return all(self.hits)


def compute_likelihoods(
    model: EditableModel,
    continuations: Sequence[Continuation],
    batch_tokens: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[Likelihood]:
    """Evaluate continuations; what several begin with is run once.

    Only the answers' positions reach the vocabulary head. A batch that does not fit in
    memory is halved; a single pack that does not fit is a `MemoryError`.

    Args:
        model: What is evaluated.
        continuations: What is evaluated, in any order and with any repetitions.
        batch_tokens: As in `editing.models.prefix_tree.run_packs`.
        on_batch: Called after each batch with the number of continuations done.
    """
    found: dict[int, Likelihood] = {}

    def run(batch: PackBatch) -> dict[int, Likelihood]:
        return _evaluate_batch(model, batch, continuations)

    rows = [item.row for item in continuations]
    for likelihoods in run_packs(model, rows, run, batch_tokens):
        found.update(likelihoods)
        if on_batch is not None:
            on_batch(len(found))
    return [found[index] for index in range(len(continuations))]


@torch.inference_mode()
def _evaluate_batch(
    model: EditableModel, batch: PackBatch, continuations: Sequence[Continuation]
) -> dict[int, Likelihood]:
    """Evaluate the continuations of a batch, by their numbers."""
    items = {number: continuations[number] for number in batch.slots}
    states: dict[int, int] = {}
    wanted: list[tuple[int, int]] = []
    for number, item in items.items():
        answering = batch.slots[number][len(item.prompt.ids) - 1 :]
        for slot, token in zip(answering, item.answer, strict=True):
            wanted.append((states.setdefault(slot, len(states)), token))
    slots = torch.tensor(list(states), device=model.device)
    with last_network_at(model, batch, slots):
        hidden: Tensor = model.model.base_model(**batch.inputs, use_cache=False)[0]
    read = hidden.flatten(0, 1)[slots.to(hidden.device)]
    places, tokens = torch.tensor(wanted, device=model.device).unbind(dim=1)
    costs, likeliest = _read_off(model, read, places, tokens)
    predicted = likeliest[places]
    check_finite(costs, "scores")
    sizes = [len(item.answer) for item in items.values()]
    parts = zip(items, sizes, accumulate(sizes), strict=True)
    hits, choices = (predicted == tokens).tolist(), predicted.tolist()
    nlls = costs.double().tolist()
    return {
        number: Likelihood(
            sum(nlls[end - n : end]) / n,
            tuple(choices[end - n : end]),
            tuple(hits[end - n : end]),
        )
        for number, n, end in parts
    }


@contextmanager
def last_network_at(
    model: EditableModel, batch: PackBatch, slots: Int[Tensor, " positions"]
) -> Iterator[None]:
    """Run the last block's feed-forward network at some of a batch's tokens alone.

    Its output is zero elsewhere, where the block's must not be read. In families that
    have no module for the network, or are unknown, it runs at all tokens.

    Args:
        model: The model.
        batch: What it is run on.
        slots: Places among all tokens of the batch.
    """
    last = model.block_count - 1
    name, _, _ = model.architecture.down_projection.format(last).rpartition(".")
    network = model.model.get_submodule(name)
    if not model.architecture.windows or network is model.block(last):
        yield
        return

    def pick(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states, *rest = given
        return (states.flatten(0, 1)[slots.to(states.device)].unsqueeze(0), *rest)

    def place(_: nn.Module, __: object, found: Tensor) -> Tensor:
        ids = batch.inputs["input_ids"]
        whole = found.new_zeros(ids.numel(), found.shape[-1])
        whole[slots.to(found.device)] = found[0]
        return whole.view(*ids.shape, -1)

    with ExitStack() as hooks:
        hooks.callback(network.register_forward_pre_hook(pick).remove)
        hooks.callback(network.register_forward_hook(place).remove)
        yield


def _read_off(
    model: EditableModel,
    states: Float[Tensor, "positions d_model"],
    places: Int[Tensor, " answers"],
    tokens: Int[Tensor, " answers"],
) -> tuple[Float[Tensor, " answers"], Int[Tensor, " positions"]]:
    """Return each wanted token's cost in nats, and each position's likeliest token."""
    costs, likeliest = [], []
    # Answers by position, so that those of one piece of the positions are together.
    sorted_places, order = places.sort(stable=True)
    size = HEAD_POSITIONS.get(states.device.type, MAX_HEAD_POSITIONS)
    for start in range(0, len(states), size):
        scores = model.head(states[start : start + size])
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        likeliest.append(scores.argmax(dim=-1))
        bounds = torch.tensor([start, start + len(scores)], device=places.device)
        first, last = torch.searchsorted(sorted_places, bounds).tolist()
        here = order[first:last]
        total = scores.logsumexp(dim=-1)[places[here] - start]
        costs.append(total - scores[places[here] - start, tokens[here]])
    return torch.cat(costs)[order.argsort()], torch.cat(likeliest)
