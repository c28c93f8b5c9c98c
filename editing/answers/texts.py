"""Prompt and answer as one text, and the positions that predict the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from editing.base.errors import InputError
from editing.models.loading import EditableModel
from editing.models.token_rows import (
    ContinuationTokenizer,
    TokenRow,
    check_length,
)
from editing.requests.edit_request import EditRequest


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A prompt with its answer, in tokens.

    Attributes:
        row: All tokens but the last, which predicts nothing that is read.
        answer: The answer's tokens, which the last positions of the row predict.
    """

    row: TokenRow
    answer: tuple[int, ...]

    @property
    def positions(self) -> range:
        """The positions whose next token is one of the answer's."""
        end = len(self.row.ids)
        return range(end - len(self.answer), end)


def tokenize_answers(
    model: EditableModel, requests: Sequence[EditRequest]
) -> list[AnswerText]:
    """Tokenize each request's prompt, subject put in, and the answer after it.

    Raises:
        InputError: If a text is longer than the model's context, or has no token before
            the answer.
    """
    asked = [(r.rewrite_prompt, r.target_new, r.target_space) for r in requests]
    found = ContinuationTokenizer(model.tokenizer).join(asked)
    texts = []
    for request, (prompt, answer) in zip(requests, found, strict=True):
        if not prompt.ids or not answer:
            raise InputError(
                f"Request {request.case_id}: the tokenizer leaves nothing of the "
                f"{'answer' if prompt.ids else 'prompt'}, and an answer is learnt from "
                "the tokens before it. Write both out."
            )
        row = prompt.followed_by(answer[:-1])
        check_length(model, row, request)
        texts.append(AnswerText(row, answer))
    return texts
