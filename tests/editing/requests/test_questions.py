"""Questions of benchmarks travel with their requests."""

import json

import pytest

from editing.base.errors import RequestError
from editing.requests.conflicts import conflicting
from editing.requests.edit_request import parse_record, parse_request, to_counterfact
from editing.requests.paraphrases import phrase, unedited_questions
from tests.editing.records import FLAT, MQUAKE, QAEDIT, WIKIBIGEDIT, Record


@pytest.mark.parametrize("record", [MQUAKE, QAEDIT, WIKIBIGEDIT])
def test_they_are_kept_in_our_own_files(record: Record) -> None:
    """Question for question; a request without them is written as it always was."""
    for request in parse_record(record, "here"):
        assert request.benchmark_questions
        written = json.loads(json.dumps(to_counterfact(request)))
        assert parse_request(written, "here") == request
        assert parse_request(request.model_dump(mode="json"), "here") == request
    plain = parse_request(FLAT, "here")
    assert "benchmark_questions" not in to_counterfact(plain)
    assert "benchmark_questions" not in plain.model_dump(mode="json")
    assert "benchmark_questions" not in plain.model_dump_json()


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("x", r"`benchmark_questions`: wanted a list of objects such as \[\{\"kind\""),
        (
            [{"kind": "mood", "prompt": "a", "answers": ["b"]}],
            r"`benchmark_questions\.0\.kind`",
        ),
        (
            [{"kind": "mquake_edit", "prompt": "a", "answers": []}],
            r"`benchmark_questions\.0\.answers`",
        ),
    ],
)
def test_what_is_no_such_question_is_refused(questions: object, message: str) -> None:
    """By the field, and with an example."""
    with pytest.raises(RequestError, match=message):
        parse_request({**FLAT, "benchmark_questions": questions}, "here")


def test_a_question_that_is_edited_in_evaluates_nothing() -> None:
    """As a paraphrase that is; and a request for another object has other answers."""
    request = parse_request(WIKIBIGEDIT, "here")
    everything = request.benchmark_questions
    assert unedited_questions(request, phrase(request, 0)) == everything
    left = unedited_questions(request, phrase(request, 1))
    assert [each.kind for each in everything if each not in left] == [
        "wikibigedit_rephrase"
    ]
    assert conflicting(request, "East Lines", 9).benchmark_questions == ()
