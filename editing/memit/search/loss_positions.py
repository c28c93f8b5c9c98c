"""The token rows of a batch of requests, and the positions that its loss reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from editing.models.chat_prompts import warn_of_chat_prompts
from editing.models.loading import EditableModel
from editing.models.token_rows import (
    BARE,
    RewriteTokenizer,
    TokenRow,
    check_length,
    tokenize_prompt,
)
from editing.requests.edit_request import EditRequest

ESSENCE_PROMPT = "{} is a"
"""The prompt after which the KL term keeps the model's next-token distribution."""


@dataclass(frozen=True, slots=True)
class TargetRows:
    """The rows of a batch of requests, with their answers.

    Attributes:
        rows: Token rows; a request's rewriting rows first, then its KL row.
        owners: Which request of the batch a row belongs to.
        answers: Tokens that a rewriting row is to predict; empty for a KL row.
        contexts: Rewriting rows of each request.
    """

    rows: list[TokenRow]
    owners: list[int]
    answers: list[tuple[int, ...]]
    contexts: int

    def among(self, indices: Sequence[int]) -> "TargetRows":
        """Keep some rows, in the order given."""
        return TargetRows(
            [self.rows[index] for index in indices],
            [self.owners[index] for index in indices],
            [self.answers[index] for index in indices],
            self.contexts,
        )

    @property
    def widths(self) -> list[int]:
        """Return the tokens of each row from its subject's last one on."""
        return [len(row.ids) - row.subject for row in self.rows]

    def by_template(self) -> list[list[int]]:
        """Group row numbers by template, KL rows by themselves."""
        kinds = self.contexts + 1
        return [list(range(kind, len(self.rows), kinds)) for kind in range(kinds)]


def pack_windows(widths: Sequence[int], most: int, slack: int) -> list[list[int]]:
    """Group row numbers into parts that are run together, rows of a width side by side.

    A part has at most `most` tokens, padding included, unless it is a single row. Rows
    join a part of wider ones if that pads at most `slack` tokens.
    """
    classes: dict[int, list[int]] = {}
    for row, width in enumerate(widths):
        classes.setdefault(width, []).append(row)
    parts: list[list[int]] = []
    for width in sorted(classes, reverse=True):
        rows = classes[width]
        widest = widths[parts[-1][0]] if parts else 0
        padding = len(rows) * (widest - width)
        if parts and padding <= slack and (len(parts[-1]) + len(rows)) * widest <= most:
            parts[-1] += rows
            continue
        count = -(-len(rows) // max(most // width, 1))
        parts += [rows[start::count] for start in range(count)]
    return parts


def build_rows(
    model: EditableModel, requests: Sequence[EditRequest], templates: Sequence[str]
) -> TargetRows:
    """Write each request's rewriting rows, then its KL row, cut at its subject.

    A row that with its answer is longer than the model's context is an `InputError`.
    """
    warn_of_chat_prompts(model.tokenizer, requests, templates)
    built = TargetRows([], [], [], len(templates))
    tokenize = RewriteTokenizer(model.tokenizer)
    for owner, request in enumerate(requests):
        for template in templates:
            row, answer = tokenize(template, request)
            check_length(model, row.followed_by(answer), request)
            _append(built, row.followed_by(answer[:-1]), owner, answer)
        essence = tokenize_prompt(
            model.tokenizer, BARE, ESSENCE_PROMPT, request.subject
        )
        cut = TokenRow(essence.ids[: essence.subject + 1], essence.subject)
        _append(built, cut, owner, ())
    return built


def _append(
    built: TargetRows, row: TokenRow, owner: int, answer: tuple[int, ...]
) -> None:
    built.rows.append(row)
    built.owners.append(owner)
    built.answers.append(answer)


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions in the rows' windows, one entry each.

    Attributes:
        rows: Row of the batch.
        columns: Column of the row's window, 0 at the subject's last token.
        tokens: Token to be predicted there.
        weights: Weight of the position in its request's term.
        owners: Request of the batch.
    """

    rows: Int[Tensor, " positions"]
    columns: Int[Tensor, " positions"]
    tokens: Int[Tensor, " positions"]
    weights: Float[Tensor, " positions"]
    owners: Int[Tensor, " positions"]

    def pick(
        self, states: Float[Tensor, "rows window d"]
    ) -> Float[Tensor, "positions d"]:
        """Return the states at these positions."""
        return states.flatten(0, 1).index_select(0, self.places(states.shape[1]))

    def places(self, width: int) -> Int[Tensor, " positions"]:
        """Number the positions in windows of a width, row after row."""
        return self.rows * width + self.columns

    def among(self, rows: Tensor, owners: Tensor) -> "Positions":
        """Keep the positions of some rows; both arguments give the new numbering."""
        new_row = renumber(rows, self.rows)
        kept = new_row >= 0
        return Positions(
            new_row[kept],
            self.columns[kept],
            self.tokens[kept],
            self.weights[kept],
            renumber(owners, self.owners[kept]),
        )


@dataclass(frozen=True, slots=True)
class LossPositions:
    """Where the loss reads logits: each answer's tokens, and one position a KL row."""

    rewriting: Positions
    essence: Positions

    def among(self, rows: Tensor, owners: Tensor) -> "LossPositions":
        """Keep the positions of some rows; both arguments give the new numbering."""
        return LossPositions(
            self.rewriting.among(rows, owners), self.essence.among(rows, owners)
        )

    @staticmethod
    def joined(
        parts: Sequence["LossPositions"], sizes: Sequence[int]
    ) -> "LossPositions":
        """Put positions below one another; `sizes` are the rows of each part."""
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        return LossPositions(
            _join([part.rewriting for part in parts], starts),
            _join([part.essence for part in parts], starts),
        )


def _join(parts: Sequence[Positions], starts: Sequence[int]) -> Positions:
    return Positions(
        torch.cat(
            [part.rows + start for part, start in zip(parts, starts, strict=True)]
        ),
        torch.cat([part.columns for part in parts]),
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.weights for part in parts]),
        torch.cat([part.owners for part in parts]),
    )


def find_positions(
    built: TargetRows, device: torch.device, dtype: torch.dtype
) -> LossPositions:
    """Find the positions that predict an answer's token, and the KL rows' last one."""
    rewriting, essence = [], []
    for index, (row, owner, answer) in enumerate(
        zip(built.rows, built.owners, built.answers, strict=True)
    ):
        start = len(row.ids) - max(len(answer), 1) - row.subject
        for offset, token in enumerate(answer):
            weight = 1 / (len(answer) * built.contexts)
            rewriting.append((index, start + offset, token, weight, owner))
        if not answer:
            essence.append((index, start, 0, 1.0, owner))
    return LossPositions(
        _to_positions(rewriting, device, dtype), _to_positions(essence, device, dtype)
    )


def _to_positions(
    entries: Sequence[tuple[int, int, int, float, int]],
    device: torch.device,
    dtype: torch.dtype,
) -> Positions:
    numbers = torch.tensor(
        [(row, column, token, owner) for row, column, token, _, owner in entries],
        dtype=torch.long,
        device=device,
    )
    rows, columns, tokens, owners = numbers.view(-1, 4).unbind(dim=1)
    weights = torch.tensor([each[3] for each in entries], device=device, dtype=dtype)
    return Positions(rows, columns, tokens, weights, owners)


def renumber(kept: Int[Tensor, " kept"], old: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return each old number's index among the kept ones, or −1."""
    size = int(torch.cat([kept, old]).max()) + 1
    indices = torch.full((size,), -1, device=old.device)
    indices[kept] = torch.arange(len(kept), device=old.device)
    return indices[old]
