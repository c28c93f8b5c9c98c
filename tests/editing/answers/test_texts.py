"""Prompt and answer as one text."""

import pytest

from editing.answers.texts import tokenize_answers
from editing.base.errors import InputError
from editing.requests.edit_request import EditRequest
from tests.tiny import tiny_model, tiny_requests


def test_the_last_positions_predict_the_answer() -> None:
    """The whole text without its last token; the answer is the next of each."""
    model = tiny_model()
    bare = EditRequest(case_id=1, prompt="who lives in Rome ?", target_new="Ada Stone")
    requests = [*tiny_requests(), bare]
    for request, text in zip(requests, tokenize_answers(model, requests), strict=True):
        words = f"{request.rewrite_prompt} {request.target_new}".split()
        ids = model.tokenizer(" ".join(words))["input_ids"]
        assert list(text.row.ids) == ids[:-1]
        assert [ids[place + 1] for place in text.positions] == list(text.answer)
        assert list(text.answer) == ids[len(request.rewrite_prompt.split()) :]


def test_a_text_beyond_the_context_is_refused() -> None:
    """By the request's number; one token less fits."""
    model = tiny_model()
    long = " ".join(["Acme"] * model.longest_input)
    request = EditRequest(case_id=7, prompt="the old map is", target_new=long)
    with pytest.raises(InputError, match=r"Request 7: .* takes 67 tokens"):
        tokenize_answers(model, [request])
    fitting = " ".join(["Acme"] * (model.longest_input - 3))
    request = request.model_copy(update={"target_new": fitting})
    (text,) = tokenize_answers(model, [request])
    assert len(text.row.ids) == model.longest_input
