"""Prompts as token rows, with the position of the subject's last token."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from editing.base.errors import InputError
from editing.models.chat_prompts import has_chat_header
from editing.models.loading import EditableModel
from editing.requests.edit_request import EditRequest
from editing.requests.joining import TargetSpace, split_running_text
from editing.requests.subjects import require_subject

BARE = "{}"
"""The template that adds nothing to a prompt."""

WORD = "a"
"""Stands before a target that follows a space, while it is tokenized."""

BREAK = "\n"
"""Stands before a target that follows no space, where the prompt itself cannot."""


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

    A prompt that has a chat header is put into none.

    The subject's last token is the last one that shares a character with it, by the
    tokenizer's offsets. If there is none, that is an `InputError`.
    """
    text, start = _place(tokenizer, template, prompt, subject)
    ((ids, offsets),) = _tokens_of(tokenizer, [text])
    return _find_subject(ids, offsets, start, subject)


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase,
    templates: Sequence[str],
    requests: Sequence[EditRequest],
) -> list[TokenRow]:
    """Tokenize each request's prompt in each template, template by template.

    See `tokenize_prompt`. The last rows are kept: every layer is read with the same.
    """
    for each in requests:
        require_subject(each)
    asked = tuple((each.prompt, each.subject) for each in requests)
    return list(_tokenize_prompts(tokenizer, tuple(templates), asked))


@lru_cache(maxsize=4)
def _tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase,
    templates: tuple[str, ...],
    asked: tuple[tuple[str, str], ...],
) -> tuple[TokenRow, ...]:
    placed = [
        (*_place(tokenizer, template, prompt, subject), subject)
        for template in templates
        for prompt, subject in asked
    ]
    encoded = _tokens_of(tokenizer, [text for text, _, _ in placed])
    return tuple(
        _find_subject(ids, offsets, start, subject)
        for (ids, offsets), (_, start, subject) in zip(encoded, placed, strict=True)
    )


def _place(
    tokenizer: PreTrainedTokenizerBase, template: str, prompt: str, subject: str
) -> tuple[str, int]:
    """Return a prompt in a template, and where its subject begins."""
    chosen = BARE if has_chat_header(tokenizer, prompt) else template
    start = chosen.index(BARE) + prompt.index(BARE)
    return chosen.replace(BARE, prompt.replace(BARE, subject)), start


def _find_subject(
    ids: tuple[int, ...], offsets: Sequence[tuple[int, int]], start: int, subject: str
) -> TokenRow:
    end = start + len(subject)
    for position in reversed(range(len(ids))):
        first, last = offsets[position]
        if first < end and last > start and last > first:
            return TokenRow(ids, position)
    raise InputError(f"The tokenizer leaves nothing of the subject {subject!r}.")


def tokenize_rewrite(
    tokenizer: PreTrainedTokenizerBase, template: str, request: EditRequest
) -> tuple[TokenRow, tuple[int, ...]]:
    """A request's prompt in a context template, and its target, as running text.

    A prompt that has a chat header is put into no template. What a template puts
    before the prompt changes nothing in how the target is joined to it.

    Returns:
        The prompt's row and the target's tokens; see `tokenize_continuation`.
    """
    return RewriteTokenizer(tokenizer)(template, request)


def tokenize_request(
    tokenizer: PreTrainedTokenizerBase, request: EditRequest
) -> tuple[TokenRow, tuple[int, ...]]:
    """A request's bare prompt and its target, with a subject or without one."""
    if request.subject:
        return tokenize_rewrite(tokenizer, BARE, request)
    return tokenize_continuation(
        tokenizer, request.prompt, request.target_new, request.target_space
    )


class RewriteTokenizer:
    """Tokenizes requests in templates, each target once; see `tokenize_rewrite`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keep the tokens of all targets for as long as this lives."""
        self._tokenizer = tokenizer
        self._target = cache(partial(_tokenize_target, tokenizer))

    def __call__(
        self, template: str, request: EditRequest
    ) -> tuple[TokenRow, tuple[int, ...]]:
        """Return the prompt's row and the target's tokens."""
        require_subject(request)
        headed = has_chat_header(self._tokenizer, request.prompt)
        prefix, _, suffix = (BARE if headed else template).partition(BARE)
        prompt, target = split_running_text(
            request.rewrite_prompt + suffix, request.target_new, request.target_space
        )
        start = len(prefix) + request.prompt.index(BARE)
        ((ids, offsets),) = _tokens_of(self._tokenizer, [prefix + prompt])
        row = _find_subject(ids, offsets, start, request.subject)
        return row, self._target(prompt, target)


class ContinuationTokenizer:
    """Tokenizes prompts with what follows them, each text once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keep the tokens of all texts for as long as this lives."""
        self._tokenizer = tokenizer
        self._rows: dict[str, TokenRow] = {}
        self._split = cache(split_running_text)
        self._target = cache(partial(_tokenize_target, tokenizer))

    def __call__(
        self, prompt: str, answer: str, space: TargetSpace = "auto"
    ) -> tuple[TokenRow, tuple[int, ...]]:
        """A finished prompt and what follows it, as running text.

        A space at the prompt's end becomes the answer's, as tokenizers have it.

        Returns:
            The prompt's row, and the answer's tokens without special ones.
        """
        (found,) = self.join([(prompt, answer, space)])
        return found

    def join(
        self, asked: Sequence[tuple[str, str, TargetSpace]]
    ) -> list[tuple[TokenRow, tuple[int, ...]]]:
        """Many prompts, what follows each, and whether with a space; all at once."""
        parts = [self._split(*each) for each in asked]
        new = dict.fromkeys(prompt for prompt, _ in parts if prompt not in self._rows)
        found = tokenize_texts(self._tokenizer, list(new))
        self._rows |= zip(new, found, strict=True)
        # After a space, a target is the same whatever is before it.
        return [
            (
                self._rows[before],
                self._target(WORD if after.startswith(" ") else before, after),
            )
            for before, after in parts
        ]


def tokenize_continuation(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answer: str,
    space: TargetSpace = "auto",
) -> tuple[TokenRow, tuple[int, ...]]:
    """One prompt and what follows it; see `ContinuationTokenizer`."""
    return ContinuationTokenizer(tokenizer)(prompt, answer, space)


def tokenize_text(tokenizer: PreTrainedTokenizerBase, text: str) -> TokenRow:
    """A finished text in tokens; its subject is its last token."""
    (row,) = tokenize_texts(tokenizer, [text])
    return row


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[TokenRow]:
    """Finished texts in tokens; the subject of each is its last token."""
    if not texts:
        return []
    encoding = tokenizer(list(texts), return_special_tokens_mask=True)
    pairs = zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True)
    kept = [ids[_kept_of(ids, added)] for ids, added in pairs]
    return [TokenRow(tuple(ids), len(ids) - 1) for ids in kept]


def _tokens_of(
    tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> list[tuple[tuple[int, ...], list[tuple[int, int]]]]:
    """Tokens of each text and the span of text of each token."""
    encoded = tokenizer(
        texts, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    names = ("input_ids", "special_tokens_mask", "offset_mapping")
    found = []
    for ids, added, offsets in zip(*(encoded[name] for name in names), strict=True):
        kept = _kept_of(ids, added)
        found.append((tuple(ids[kept]), offsets[kept]))
    return found


def _kept_of(ids: Sequence[int], added: Sequence[int]) -> slice:
    """Which of a text's tokens belong to its row.

    Special tokens that the tokenizer puts before a text do, but not a second time if
    the text, which has its chat template in it, begins with them. Those that it puts
    after a text do not: what follows a prompt is its target.

    Args:
        ids: The text's tokens.
        added: 1 for each token that the tokenizer added.
    """
    size = len(ids)
    while size > 1 and added[size - 1] and not all(added[:size]):
        size -= 1
    return slice(count_doubled(ids, added), size)


def count_doubled(ids: Sequence[int], added: Sequence[int]) -> int:
    """How many tokens the tokenizer adds before a text that begins with them.

    Args:
        ids: The text's tokens.
        added: 1 for each token that the tokenizer added.
    """
    front = 0
    while front < len(ids) and added[front]:
        front += 1
    # Some tokenizers mark special tokens of the text itself as added, too.
    for count in range(1, front + 1):
        if list(ids[count : 2 * count]) == list(ids[:count]):
            return count
    return 0


def tokenize_target(tokenizer: PreTrainedTokenizerBase, target: str) -> tuple[int, ...]:
    """What follows an English word, in tokens: one space and the target's text."""
    return _tokenize_target(tokenizer, WORD, f" {target.strip()}")


def _tokenize_target(
    tokenizer: PreTrainedTokenizerBase, prompt: str, target: str
) -> tuple[int, ...]:
    """The tokens of a text after a prompt, without special ones.

    SentencePiece tokenizers put a space of their own before any text, which inside a
    text is not there; so another text is put before the target, and its tokens are
    taken away. After a space that is any word. Elsewhere it is the prompt, or, where
    the prompt's last letters and the target share a token, a line break.

    Args:
        tokenizer: The tokenizer.
        prompt: What is before the target.
        target: What follows, with the space between them if there is one.
    """

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    for before in (WORD,) if target.startswith(" ") else (prompt, BREAK):
        alone, whole = encode(before), encode(before + target)
        if whole[: len(alone)] == alone and len(whole) > len(alone):
            return tuple(whole[len(alone) :])
    return tuple(encode(target))


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
