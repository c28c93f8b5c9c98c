"""Perplexity: how surprised a model is by a text."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from editing.base.errors import InputError
from editing.evaluation.likelihoods import Continuation, compute_likelihoods
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow

ESSENCE_TOKENS = 100
"""How much of an essence ROME's and MEMIT's programs read."""


@dataclass(frozen=True, slots=True)
class Surprise:
    """How unlikely texts are; that of two texts together is the sum.

    Attributes:
        nll: Negative log-likelihood of all tokens that were predicted, in nats.
        tokens: How many these are.
    """

    nll: float = 0.0
    tokens: int = 0

    def __add__(self, other: "Surprise") -> "Surprise":
        """Read two texts."""
        return Surprise(self.nll + other.nll, self.tokens + other.tokens)

    @property
    def perplexity(self) -> float:
        """``exp(nll / tokens)``; infinite where floats end."""
        mean = self.nll / self.tokens
        return math.exp(mean) if mean < 700 else math.inf


def essence_score(
    model: EditableModel, text: str, max_tokens: int = ESSENCE_TOKENS
) -> float:
    """``exp(−1/N · Σ log p)`` over the first ``N`` tokens of a text.

    As ROME's and MEMIT's programs have it: the sum is over the ``N − 1`` tokens that
    can be predicted, and the mean over all ``N`` (Meng et al., arXiv 2202.05262).

    Raises:
        InputError: If the text is shorter than two tokens.
    """
    length = min(max_tokens, model.longest_input)
    encoded = model.tokenizer(text, truncation=True, max_length=length)
    ids = tuple(encoded["input_ids"])
    if len(ids) < 2:
        raise InputError("a perplexity wants a text of two tokens or more")
    surprise = _read_window(model, ids, 1)
    return Surprise(surprise.nll, len(ids)).perplexity


def read_surprise(
    model: EditableModel,
    text: str,
    window: int | None = None,
    stride: int | None = None,
    tokens: int | None = None,
) -> Surprise:
    """Read a text in windows that overlap, each token once, given the tokens before it.

    Args:
        model: What reads.
        text: A text of any length.
        window: Tokens of a window; the model's longest input if None, at most 1024.
        stride: By how many tokens windows move on; half a window if None. All tokens
            but the first window's have ``window − stride`` or more before them.
        tokens: How many tokens are read, from the first on; all if None.

    Raises:
        InputError: If the text is shorter than two tokens, or a window or stride
            cannot be.
    """
    width = min(window or 1024, model.longest_input)
    step = stride or max(1, width // 2)
    if width < 2 or step >= width:
        raise InputError(f"windows of {width} tokens cannot move on by {step}")
    ids = tuple(model.tokenizer(text)["input_ids"])[:tokens]
    if len(ids) < 2:
        raise InputError("a perplexity wants a text of two tokens or more")
    return sum(
        (_read_window(model, part, new) for part, new in _windows(ids, width, step)),
        Surprise(),
    )


def _windows(
    ids: tuple[int, ...], width: int, step: int
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Give windows, each with the place of its first token not predicted before."""
    done = 1
    for start in range(0, len(ids), step):
        stop = min(start + width, len(ids))
        yield ids[start:stop], done - start
        done = stop
        if stop == len(ids):
            return


def _read_window(model: EditableModel, ids: tuple[int, ...], new: int) -> Surprise:
    """Read the tokens of a window from place `new` on."""
    context = TokenRow(ids[:new], new - 1)
    (found,) = compute_likelihoods(model, [Continuation(context, ids[new:])])
    count = len(ids) - new
    return Surprise(found.nll * count, count)
