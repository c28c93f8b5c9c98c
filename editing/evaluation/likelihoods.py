"""Likelihoods: how likely answers are after their prompts.

Common prefixes are computed once. An answer of ``n`` tokens is read off the row
``prompt + answer[:-1]``, at its last ``n`` positions; with causal attention, that row
also gives the logits of each of its prefixes. So only the distinct rows that are no
prefix of another row are run: one row for all single-token answers to a prompt, and one
for a prompt that many requests have.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from editing.models.batching import run_batches
from editing.models.editable import check_finite
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, pad_rows

HEAD_POSITIONS = {"cpu": 128}
MAX_HEAD_POSITIONS = 1024
"""Positions that go through the vocabulary head together, by device and elsewhere."""

BATCH_TOKENS = {"cpu": 512}
MAX_BATCH_TOKENS = 16384
"""Tokens of a batch, padding counted, by device and elsewhere.

A CPU is fastest where what a block makes of a batch stays near it.
"""


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
    batch_size: int = 256,
    on_batch: Callable[[int], None] | None = None,
) -> list[Likelihood]:
    """Evaluate continuations, every distinct row once, in batches of similar length.

    Rows are padded on the right, where causal attention does not look, and only the
    answers' positions reach the vocabulary head. A batch that does not fit in memory
    is halved; a single row that does not fit is a `MemoryError`.

    Args:
        model: What is evaluated.
        continuations: What is evaluated, in any order and with any repetitions.
        batch_size: Rows of a batch, to begin with.
        on_batch: Called after each batch with the number of continuations done.
    """
    rows, hosts = share_rows([item.row for item in continuations])
    guests: list[list[int]] = [[] for _ in rows]
    for index, host in enumerate(hosts):
        guests[host].append(index)
    order = sorted(range(len(rows)), key=lambda row: (len(rows[row]), row))
    found: dict[int, Likelihood] = {}

    def run(batch: Sequence[int]) -> list[Likelihood]:
        items = [[continuations[guest] for guest in guests[row]] for row in batch]
        return _evaluate_batch(model, [rows[row] for row in batch], items)

    lengths = [len(rows[row]) for row in order]
    budget = BATCH_TOKENS.get(model.device.type, MAX_BATCH_TOKENS)
    for start, stop in split_by_tokens(lengths, batch_size, budget):
        batch = order[start:stop]
        for part, likelihoods in run_batches(batch, len(batch), run):
            evaluated = [guest for row in part for guest in guests[row]]
            found.update(zip(evaluated, likelihoods, strict=True))
        if on_batch is not None:
            on_batch(len(found))
    return [found[index] for index in range(len(continuations))]


def share_rows(
    rows: Sequence[tuple[int, ...]],
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Keep the distinct rows that no other row begins with.

    Returns:
        The rows kept, in dictionary order, and for each given row the place of a kept
        one that begins with it.
    """
    order = sorted(range(len(rows)), key=lambda index: rows[index])
    kept: list[tuple[int, ...]] = []
    hosts = [0] * len(rows)
    # In lexicographic order a row comes right before those that begin with it.
    for index in reversed(order):
        row = rows[index]
        if not kept or kept[-1][: len(row)] != row:
            kept.append(row)
        hosts[index] = len(kept) - 1
    return kept[::-1], [len(kept) - 1 - host for host in hosts]


def split_by_tokens(
    lengths: Sequence[int], batch_size: int, budget: int
) -> Iterator[tuple[int, int]]:
    """Cut rows in order of length into batches; a single row always makes one.

    Args:
        lengths: Tokens of each row, never falling.
        batch_size: Most rows of a batch.
        budget: Most tokens of a batch, padding counted.

    Yields:
        Where each batch begins and ends.
    """
    start = 0
    for stop in range(1, len(lengths) + 1):
        following = lengths[stop] if stop < len(lengths) else math.inf
        full = stop - start == batch_size
        if full or (stop + 1 - start) * following > budget:
            yield start, stop
            start = stop


@torch.inference_mode()
def _evaluate_batch(
    model: EditableModel,
    rows: Sequence[tuple[int, ...]],
    guests: Sequence[Sequence[Continuation]],
) -> list[Likelihood]:
    states: dict[tuple[int, int], int] = {}
    wanted: list[tuple[int, int]] = []
    for row, items in enumerate(guests):
        for item in items:
            for column, token in enumerate(item.answer, len(item.prompt.ids) - 1):
                wanted.append((states.setdefault((row, column), len(states)), token))
    padded = pad_rows([TokenRow(row, len(row) - 1) for row in rows], model.device)
    hidden: Tensor = model.model.base_model(
        input_ids=padded.input_ids,
        attention_mask=padded.attention_mask,
        use_cache=False,
    )[0]
    row_of, column_of = torch.tensor(list(states), device=model.device).unbind(dim=1)
    places, tokens = torch.tensor(wanted, device=model.device).unbind(dim=1)
    costs, likeliest = _read_off(model, hidden[row_of, column_of], places, tokens)
    predicted = likeliest[places]
    check_finite(costs, "scores")
    sizes = [len(item.answer) for items in guests for item in items]
    parts = zip(sizes, accumulate(sizes), strict=True)
    hits, choices = (predicted == tokens).tolist(), predicted.tolist()
    means = [float(part.mean()) for part in costs.double().cpu().split(sizes)]
    return [
        Likelihood(mean, tuple(choices[end - n : end]), tuple(hits[end - n : end]))
        for mean, (n, end) in zip(means, parts, strict=True)
    ]


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
