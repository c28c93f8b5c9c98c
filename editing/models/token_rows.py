"""Prompts as token rows, with the place of the subject's last token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from editing.base.errors import InputError
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest

BARE = "{}"
"""The template that puts nothing around a prompt."""

WORD = "a"
"""Stands in front of a target while it is cut."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One text in tokens.

    Attributes:
        ids: Token numbers.
        subject: Position of the subject's last token; the last token if there is none.
    """

    ids: tuple[int, ...]
    subject: int

    def followed_by(self, ids: Sequence[int]) -> "TokenRow":
        """Append tokens as they are, never through text."""
        return TokenRow((*self.ids, *ids), self.subject)


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Rows padded on the right, where causal attention never looks.

    Attributes:
        input_ids: Token numbers.
        attention_mask: 1 for tokens, 0 for padding.
        subjects: Position of each row's subject's last token.
    """

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Int[Tensor, "batch seq"]
    subjects: Int[Tensor, " batch"]

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Tokens of each row, padding not counted."""
        return self.attention_mask.sum(dim=1)


def tokenize_prompt(
    tokenizer: PreTrainedTokenizerBase, template: str, prompt: str, subject: str
) -> TokenRow:
    """Put a subject into a prompt and the prompt into a context template.

    The subject's last token is the last one that shares a character with it, by the
    tokenizer's offsets.

    Raises:
        InputError: If no token shares a character with the subject.
    """
    before = template.index(BARE) + prompt.index(BARE)
    text = template.replace(BARE, prompt.replace(BARE, subject))
    ids, offsets = _tokens_of(tokenizer, text)
    end = before + len(subject)
    for position in reversed(range(len(ids))):
        first, last = offsets[position]
        if first < end and last > before and last > first:
            return TokenRow(ids, position)
    raise InputError(f"The tokenizer leaves nothing of the subject {subject!r}.")


def tokenize_text(tokenizer: PreTrainedTokenizerBase, text: str) -> TokenRow:
    """A finished text in tokens; its subject is its last token."""
    ids, _ = _tokens_of(tokenizer, text)
    return TokenRow(ids, len(ids) - 1)


def _tokens_of(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """Tokens and where each lies in the text.

    Special tokens that the tokenizer puts in front belong to the row. Those it would
    put behind do not: what follows a prompt is its target.
    """
    encoding = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    ids, added = encoding["input_ids"], encoding["special_tokens_mask"]
    size = len(ids)
    while size > 1 and added[size - 1] and not all(added[:size]):
        size -= 1
    return tuple(ids[:size]), encoding["offset_mapping"][:size]


def tokenize_target(tokenizer: PreTrainedTokenizerBase, target: str) -> tuple[int, ...]:
    """A continuation in tokens: as it is cut behind a word, without special tokens.

    That is with its leading space, once: SentencePiece tokenizers put a space of their
    own in front of any text, which inside a text is not there.
    """
    alone, behind = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (WORD, f"{WORD} {target.strip()}")
    )
    if behind[: len(alone)] != alone:
        behind = tokenizer(f" {target.strip()}", add_special_tokens=False)["input_ids"]
        return tuple(behind)
    return tuple(behind[len(alone) :])


def pad_rows(rows: Sequence[TokenRow], device: torch.device) -> PromptBatch:
    """Pad rows of different lengths on the right."""
    width = max(len(row.ids) for row in rows)
    padded = [[*row.ids, *[0] * (width - len(row.ids))] for row in rows]
    mask = [[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows]
    return PromptBatch(
        torch.tensor(padded, device=device),
        torch.tensor(mask, device=device),
        torch.tensor([row.subject for row in rows], device=device),
    )


def order_by_length(rows: Sequence[TokenRow]) -> list[int]:
    """Row numbers, shortest first, so that in batches of them little is padded."""
    return sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), index))


def check_length(model: EditableModel, row: TokenRow, request: EditRequest) -> None:
    """Refuse a row that the model has no positions for.

    Raises:
        InputError: If the row is longer than the model's context.
    """
    if len(row.ids) > model.longest_input:
        raise InputError(
            f"Request {request.case_id}: a prompt with subject and target takes "
            f"{len(row.ids)} tokens and the model reads {model.longest_input}. Shorten "
            "the subject, the prompt or the context templates."
        )
