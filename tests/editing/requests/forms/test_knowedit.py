"""Laws of KnowEdit's form: probes of every kind become questions."""

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import (
    EditRequest,
    Question,
    parse_request,
)
from editing.requests.forms.knowedit import from_knowedit
from tests.editing.records import (
    CKNOWEDIT,
    EASY,
    KNOW_ZSRE,
    RECENT,
    WIKIBIO,
    Record,
)


def test_knowedit_is_read_part_by_part() -> None:
    """Probes of all kinds are questions; any spelling of an answer will do."""
    recent = parse_request(RECENT, "here", 5)
    assert recent == EditRequest(
        case_id=5,
        prompt="The place of death of {} is",
        subject="Ada Quill",
        target_new="Lund",
        portability=(
            Question(prompt="Is Ada Quill alive?", answers=("no", "is dead")),
            Question(prompt="Ada Quill died in", answers=("Skåne", "Scania")),
        ),
        locality=(
            Question(prompt="The father of Ada Quill is", answers=("Bo Quill",)),
            Question(prompt="The work of Ada Quill is", answers=("physics",)),
        ),
    )
    assert parse_request(KNOW_ZSRE, "here", 5) == recent.model_copy(
        update={
            "prompt": "Where did {} die?",
            "target_true": "Kiel",
            "paraphrase_prompts": ("Which town did Ada Quill die in?",),
            "portability": (Question(prompt="Land?", answers=("Sweden",)),),
        }
    )
    assert parse_request(WIKIBIO, "here") == EditRequest(
        case_id=0,
        prompt="This is a Wikipedia passage about {}. Ada Quill (1828 - 1896) was",
        subject="ada quill",
        target_new="She was educated at Lund.",
        locality=(Question(prompt="ada quill field of work", answers=("medicine",)),),
    )
    easy = parse_request(EASY, "here")
    assert (easy.case_id, easy.target_true) == (4, "Swedish")
    assert easy.locality == (
        Question(prompt="The mother tongue of Bo is", answers=("Danish",)),
    )
    more = from_knowedit({**RECENT, "rephrase": ["a", "b"]})
    assert more["paraphrase_prompts"] == ("a", "b")


@pytest.mark.parametrize("answer", ["", " ", [], [[]], [[""], []]])
def test_a_probe_of_knowedit_without_an_answer_is_left_out(answer: object) -> None:
    """Published files have some, and EasyEdit leaves them out; one is not missing."""
    probes = [
        {"prompt": "a", "ground_truth": answer},
        *RECENT["locality"]["Relation_Specificity"],
    ]
    record = {**RECENT, "locality": {"R": probes}, "ground_truth": answer}
    assert parse_request(record, "here") == parse_request(RECENT, "here")
    del probes[0]["ground_truth"]
    wanted = r"`locality\.R\.0\.ground_truth`: is missing or null; wanted a list of"
    with pytest.raises(RequestError, match=wanted):
        parse_request(record, "here")


def test_cknowedit_lists_its_probes() -> None:
    """Each with an answer, and the old target is the true one."""
    assert parse_request(CKNOWEDIT, "here") == EditRequest(
        case_id=0,
        prompt="{}的特产是",
        subject="柳岸镇",
        target_new="纸伞",
        target_true="茶叶",
        paraphrase_prompts=("柳岸镇以什么出名?",),
        portability=(Question(prompt="柳岸镇的人做", answers=("纸伞",)),),
        locality=(Question(prompt="河湾镇的特产是", answers=("竹席",)),),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"locality": "x"},
            r"^here: `locality`: wanted an object by kind such as \{\"Reason.*'x'",
        ),
        (
            {"locality": [], "portability": {"Reasoning": []}},
            r"^here: `portability`: wanted a list of objects such as \[\{\"prompt\": .*"
            r"\}\], got \{'Reasoning': \[\]\}",
        ),
        (
            {"locality": [{"prompt": "a"}], "portability": [], "rephrase": "b"},
            r"^here: `locality\.0`: has no `answer`; wants a text, or a list of texts",
        ),
    ],
)
def test_probes_of_another_shape_are_shown_the_right_one(
    change: Record, message: str
) -> None:
    """With an example; no message wants what it got."""
    with pytest.raises(RequestError, match=message):
        parse_request({**RECENT, **change}, "here")
