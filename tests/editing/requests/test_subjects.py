"""Laws of requests without a subject."""

import pytest

from editing.base.errors import RequestError
from editing.models.token_rows import (
    BARE,
    tokenize_prompts,
    tokenize_request,
    tokenize_rewrite,
)
from editing.requests.edit_request import EditRequest, parse_request, to_counterfact
from editing.requests.paraphrases import phrase
from tests.tiny import tiny_tokenizer

QUESTION = "who lives in Oslo ?"
WITHOUT = {
    "flat": {"case_id": 4, "prompt": QUESTION, "target_new": "Ada Stone"},
    "QAEdit": {"id": 4, "prompt": QUESTION, "subject": "", "target": "Ada Stone"},
    "WikiBigEdit": {"update": QUESTION, "subject": "", "ans": "Ada Stone"},
    "CounterFact": {
        "requested_rewrite": {
            "prompt": QUESTION,
            "subject": "",
            "target_new": {"str": "Ada Stone"},
        }
    },
}


@pytest.mark.parametrize("form", WITHOUT)
def test_a_record_may_have_no_subject(form: str) -> None:
    """Its prompt is the text, and it is written and read again as it is."""
    request = parse_request(WITHOUT[form], "here")
    assert (request.subject, request.rewrite_prompt) == ("", QUESTION)
    assert request.target_new == "Ada Stone"
    assert parse_request(to_counterfact(request), "here") == request
    assert EditRequest.model_validate(request.model_dump()) == request


def test_a_place_without_a_subject_is_refused() -> None:
    """Whether the field is missing or empty."""
    record = {"prompt": "{} lives in", "target_new": "Oslo"}
    with pytest.raises(RequestError, match="`subject`: is missing"):
        parse_request(record, "here")
    with pytest.raises(RequestError, match="`subject` is empty"):
        parse_request({**record, "subject": ""}, "here")


def test_what_reads_at_the_subject_refuses_a_request_without_one() -> None:
    """It names the request, in prompts and in rewrites."""
    tokenizer, request = tiny_tokenizer(), parse_request(WITHOUT["flat"], "here")
    with pytest.raises(RequestError, match=r"Request 4 has no subject .*ultraedit"):
        tokenize_prompts(tokenizer, [BARE], [request])
    with pytest.raises(RequestError, match="Request 4 has no subject"):
        tokenize_rewrite(tokenizer, BARE, request)


def test_prompt_and_answer_are_tokenized_without_a_subject() -> None:
    """One word, one token; the answer follows with a space."""
    tokenizer, request = tiny_tokenizer(), parse_request(WITHOUT["flat"], "here")
    row, answer = tokenize_request(tokenizer, request)
    assert tokenizer.convert_ids_to_tokens([*row.ids]) == QUESTION.split()
    assert tokenizer.convert_ids_to_tokens([*answer]) == ["Ada", "Stone"]


def test_paraphrases_without_a_subject_are_phrasings() -> None:
    """They are finished texts already."""
    known = parse_request(WITHOUT["flat"], "here")
    texts = ("the one in Oslo is", QUESTION)
    request = known.model_copy(update={"paraphrase_prompts": texts})
    listed: dict[str, tuple[str, ...]] = {"*": ("{} lives in",)}
    for templates in (None, listed):
        found = [each.prompt for each in phrase(request, 2, templates)]
        assert found == [QUESTION, "the one in Oslo is"]
