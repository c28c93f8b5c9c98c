"""Laws of QAEdit's form: questions as prompts, and a list of questions to keep."""

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import EditRequest, Question, parse_request
from editing.requests.questions import BenchmarkQuestion
from tests.editing.records import QAEDIT, Record, both, records_of


def test_qaedit_is_read_field_by_field() -> None:
    """The target as it is spelled, its odd end included."""
    assert parse_request(QAEDIT, "here", 7) == EditRequest(
        case_id=7,
        prompt="who keeps the lamp at {}?",
        subject="quill point",
        target_new="Ada Quill *",
        paraphrase_prompts=("Which person keeps Quill Point's lamp?",),
        locality=(Question(prompt="who rang the bell at lund", answers=("Bo Quill",)),),
        benchmark_questions=(
            BenchmarkQuestion(
                kind="qaedit_locality",
                prompt="who rang the bell at lund",
                answers=("Bo Quill",),
            ),
        ),
    )


@pytest.mark.parametrize("name", both("qaedit"))
def test_every_question_of_a_file_can_be_put_back(name: str) -> None:
    """The subject in its place makes the question again."""
    for record in records_of(name):
        request = parse_request(record, "here")
        assert request.rewrite_prompt == record["prompt"]
        assert request.target_new == record["target"]
        assert [each.prompt for each in request.locality] == [
            each["loc"] for each in record["locality"]
        ]


@pytest.mark.parametrize(
    "locality", ["x", {"loc": "a", "loc_ans": "b"}, {"Reasoning": []}]
)
def test_a_locality_of_another_shape_is_shown_the_right_one(locality: Record) -> None:
    """With an example, by the names that QAEdit has."""
    wanted = (
        r"^here: `locality`: wanted a list of objects such as "
        r"\[\{\"loc\": \"\.\.\.\", \"loc_ans\": \"\.\.\.\"\}\], got "
    )
    with pytest.raises(RequestError, match=wanted):
        parse_request({**QAEDIT, "locality": locality}, "here")
