"""Laws of MQuAKE's form: one request a rewrite, and questions about all of them."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import (
    EditRequest,
    Question,
    parse_record,
    parse_request,
    read_requests,
)
from editing.requests.forms.mquake import REWRITES, from_mquake
from editing.requests.questions import BenchmarkQuestion
from tests.editing.records import MQUAKE, Record


def of_two(number: object = 3) -> Record:
    """Make a case of two rewrites."""
    record = deepcopy(MQUAKE)
    second = {
        "prompt": "{} sits in",
        "subject": "North Lines",
        "target_new": {"str": "Kiel"},
        "target_true": {"str": "Lund"},
    }
    record["requested_rewrite"].append(second)
    return {**record, "case_id": number}


def asked(kind: str, question: str, *answers: str) -> BenchmarkQuestion:
    """Ask as MQuAKE's program does."""
    prompt = f"Q: {question} A:"
    return BenchmarkQuestion.model_validate(
        {"kind": f"mquake_{kind}", "prompt": prompt, "answers": answers}
    )


def test_each_rewrite_is_a_request_of_its_case() -> None:
    """In order; the questions of several steps belong to the last one."""
    first, second = parse_record(of_two(), "here", 5)
    assert first == EditRequest(
        case_id=5 * REWRITES,
        case_name="3",
        prompt="{} works for",
        subject="Ada Quill",
        target_new="North Lines",
        target_true="South Lines",
        relation_id="P108",
        paraphrase_prompts=("Who employs Ada Quill?",),
        benchmark_questions=(
            asked("edit", "Who employs Ada Quill?", "North Lines", "North Lines Ltd"),
        ),
    )
    assert second == EditRequest(
        case_id=5 * REWRITES + 1,
        case_name="3",
        prompt="{} sits in",
        subject="North Lines",
        target_new="Kiel",
        target_true="Lund",
        portability=(
            Question(
                prompt="Where does the firm sit that Ada Quill works for?",
                answers=("Kiel", "the town of Kiel"),
            ),
        ),
        benchmark_questions=(
            asked(
                "instance", "Who employs Ada Quill?", "North Lines", "North Lines Ltd"
            ),
            asked("instance", "Where does North Lines sit?", "Kiel"),
            asked(
                "multi_hop",
                "Where does the firm sit that Ada Quill works for?",
                "Kiel",
                "the town of Kiel",
            ),
        ),
    )
    with pytest.raises(RequestError, match="wanted one request, got 2 rewrites"):
        parse_request(of_two(), "here")


def test_requests_of_a_file_have_numbers_of_their_own(tmp_path: Path) -> None:
    """A limit counts requests, and a record that is left out renumbers none."""
    file = tmp_path / "mquake.json"
    file.write_text(json.dumps([of_two(1), of_two("two"), MQUAKE]), "utf-8")
    found = read_requests(file)
    assert [(each.case_id, each.case_name) for each in found] == [
        (0, "1"),
        (1, "1"),
        (REWRITES, "two"),
        (REWRITES + 1, "two"),
        (2 * REWRITES, "3"),
    ]
    assert read_requests(file, limit=3) == found[:3]
    assert read_requests(file, skip=(1,)) == found[2:]


def test_texts_that_akew_adds_to_a_rewrite_are_not_read() -> None:
    """The request is that of the record without them."""
    record = deepcopy(MQUAKE)
    record["requested_rewrite"][0] |= {
        "prompt_full": "Ada Quill works for",
        "fact_new": "Ada Quill works for North Lines.",
        "fact_new_uns": "Since 1850, Ada Quill works for North Lines.",
        "unsfact_triplets_GPT": [{"subject": "a", "prompt": "{} is", "target": "b"}],
    }
    assert parse_record(record, "here") == parse_record(MQUAKE, "here")


@pytest.mark.parametrize("count", [0, REWRITES + 1])
def test_a_case_without_rewrites_or_with_too_many_is_refused(count: int) -> None:
    """By the field."""
    record = {**MQUAKE, "requested_rewrite": MQUAKE["requested_rewrite"] * count}
    with pytest.raises(RequestError, match="`requested_rewrite`: "):
        from_mquake(record)
