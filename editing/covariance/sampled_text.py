"""Text that a model generates, for users without a corpus.

Rows begin with the token that the tokenizer begins a text with, and each next token is
drawn at temperature 1 from all the model's probabilities. They stay tokens, because
decoding and tokenizing them again would give other tokens.
"""

from collections.abc import Iterator
from itertools import count

import torch
from jaxtyping import Int
from torch import Tensor

from editing.models.editable import check_finite
from editing.models.loading import EditableModel

SAMPLED_TOGETHER = 32
"""Rows that are drawn in one batch."""

LONGEST_SAMPLE = 512
"""Most tokens of a row, if the model's context is not shorter."""


def name_samples(model: EditableModel, seed: int) -> str:
    """Return all that the samples depend on, apart from the machine's rounding."""
    length = _length(model)
    return (
        f"self: weights {model.fingerprint}, tokenizer {model.tokenizer_fingerprint}, "
        f"seed {seed}, {SAMPLED_TOGETHER} rows of at most {length}"
    )


def sample_documents(
    model: EditableModel, seed: int, start: int = 0
) -> Iterator[tuple[int, ...]]:
    """Yield rows of sampled tokens without end, from row `start` on.

    A row ends before the token that ends a text, or at the context's length, and has at
    least one token. The same seed gives the same rows, wherever one starts.
    """
    first, skipped = divmod(start, SAMPLED_TOGETHER)
    for batch in count(first):
        rows = _cut_rows(model, _sample_batch(model, seed, batch))
        yield from rows[skipped:]
        skipped = 0


def _length(model: EditableModel) -> int:
    return min(model.longest_input, LONGEST_SAMPLE)


@torch.no_grad()
def _sample_batch(
    model: EditableModel, seed: int, batch: int
) -> Int[Tensor, "batch seq"]:
    """Draw rows, which may continue after their end token."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + batch) % 2**63)
    tokens = [_first_tokens(model, generator)]
    ends = model.tokenizer.eos_token_id
    ended = torch.zeros(SAMPLED_TOGETHER, dtype=torch.bool)
    cache = None
    while len(tokens) < _length(model) and not ended.all():
        output = model.model(
            input_ids=tokens[-1][:, None].to(model.device),
            attention_mask=torch.ones(
                SAMPLED_TOGETHER, len(tokens), dtype=torch.long, device=model.device
            ),
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        scores = output.logits[:, -1].float().cpu()
        check_finite(scores.amax(dim=-1), "scores")
        if ends is not None and len(tokens) == 1:
            scores[:, ends] = -torch.inf  # a row of no token would be none
        drawn = torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
        if ends is not None:
            ended |= drawn == ends
        tokens.append(drawn)
    return torch.stack(tokens, dim=1)


def _first_tokens(
    model: EditableModel, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    given = _beginning(model)
    if given is not None:
        return torch.full((SAMPLED_TOGETHER,), given)
    size = len(model.tokenizer)
    return torch.randint(size, (SAMPLED_TOGETHER,), generator=generator)


def _beginning(model: EditableModel) -> int | None:
    """Return the token that begins a text; None if there is none."""
    found = model.tokenizer.bos_token_id
    found = model.tokenizer.eos_token_id if found is None else found
    return None if found is None else int(found)


def _cut_rows(
    model: EditableModel, rows: Int[Tensor, "batch seq"]
) -> list[tuple[int, ...]]:
    """Truncate rows at their end; drop the first token if the tokenizer adds none."""
    given, ends = _beginning(model), model.tokenizer.eos_token_id
    begun = model.tokenizer("a")["input_ids"]
    keep = given is None or begun[:1] == [given]
    cut = []
    for row in rows.tolist():
        said = row[1:]
        if ends in said:
            said = said[: said.index(ends)]
        cut.append((row[0], *said) if keep else tuple(said))
    return cut
