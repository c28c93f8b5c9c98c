"""Laws of forms: a published record means what its authors' programs make of it."""

import json

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import (
    EditRequest,
    Question,
    parse_request,
    read_requests,
    to_counterfact,
)
from editing.requests.forms.counterfact import from_counterfact
from editing.requests.forms.recognise import from_flat, read_form, recognise
from editing.requests.forms.zsre import ZsreTarget
from tests.editing.records import (
    COUNTERFACT,
    EASY,
    FILES,
    FLAT,
    MADE,
    ZSRE,
    Record,
    both,
    find,
    records_of,
)


@pytest.mark.parametrize("form", MADE)
def test_a_form_follows_from_its_fields(form: str) -> None:
    """Also where a record lacks any one of them, or all that may be missing."""
    for record in MADE[form]:
        assert recognise(record) == form
        for field in record:
            less = {key: value for key, value in record.items() if key != field}
            if field != "requested_rewrite":
                assert recognise(less) == form, field


@pytest.mark.parametrize("name", FILES)
def test_every_record_of_a_file_is_read(name: str) -> None:
    """As many as there are, each in its form."""
    records = records_of(name)
    assert {recognise(record) for record in records} == {FILES[name].form}
    assert len(read_requests(find(name))) == len(records) == FILES[name].count


@pytest.mark.parametrize("name", [each for each in FILES if "sample" not in each])
def test_made_up_records_have_the_fields_of_published_ones(name: str) -> None:
    """All of them and no others, at any depth."""
    ours, theirs = (fields(records_of(each)) for each in both(name))
    assert ours == theirs


def fields(value: object, path: str = "") -> set[str]:
    """Name the fields of records by their path and the kind of what they have."""
    if isinstance(value, dict):
        return {
            name
            for key, each in value.items()
            for name in fields(each, f"{path}.{key}")
        }
    if isinstance(value, list):
        return {name for each in value for name in fields(each, path)}
    return {f"{path}: {type(value).__name__}"}


def test_fields_of_two_forms_are_refused() -> None:
    """Whichever two; the message lists what was found and what is known."""
    alone = [form for form in MADE if form != "flat"]
    for first in alone:
        for second in alone:
            if first == second or {first, second} == {"CounterFact", "MQuAKE"}:
                continue
            mixed = {**MADE[first][-1], **MADE[second][-1]}
            with pytest.raises(RequestError, match=r"has fields of \w+ and of \w+ \("):
                recognise(mixed)


@pytest.mark.parametrize("record", [{}, {"question": "x", "answer": "y"}, {"a": None}])
def test_an_unknown_form_is_refused(record: Record) -> None:
    """With the fields found and the forms known."""
    with pytest.raises(RequestError, match="has no known form") as caught:
        recognise(record)
    for named in (*record, "CounterFact", "zsRE", "KnowEdit", "ConflictEdit", "flat"):
        assert named in str(caught.value)


def test_counterfact_is_read_field_by_field() -> None:
    """All prompts; identifiers that no editor reads are left."""
    assert parse_request(COUNTERFACT, "here") == EditRequest(
        case_id=7,
        prompt="The mother tongue of {} is",
        subject="Tilda Varnmoor",
        target_new="English",
        target_true="French",
        relation_id="P103",
        paraphrase_prompts=("Tilda Varnmoor, a native",),
        neighborhood_prompts=("Osric Pell is a native speaker of",),
        attribute_prompts=("M.T. Brandle is a native speaker of",),
        generation_prompts=("Tilda Varnmoor was born in",),
    )
    assert from_counterfact(COUNTERFACT)["case_id"] == 7


@pytest.mark.parametrize("record", [COUNTERFACT, EASY])
def test_a_new_question_is_read_in_other_forms(record: Record) -> None:
    """Next to CounterFact's rewrite, and in EasyEdit's short form."""
    asked = {"New Question": "Is it old?", "New Answer": ["yes", "it is"]}
    new = {**record, "portability": {"Recalled Relation": "(a, b, c)", **asked}}
    request, plain = parse_request(new, "here"), parse_request(record, "here")
    question = Question(prompt="Is it old?", answers=("yes", "it is"))
    assert request == plain.model_copy(update={"portability": (question,)})
    del new["portability"]["New Answer"]
    wanted = (
        r"^here: `portability\.New Answer`: is missing or null; wanted a list of te"
    )
    with pytest.raises(RequestError, match=wanted):
        parse_request(new, "here")


def test_the_flat_form_is_the_fields_by_name() -> None:
    """Nothing is renamed."""
    assert from_flat(FLAT) == FLAT
    assert read_form(FLAT, "answers") == (FLAT,)
    assert parse_request(FLAT, "here").locality[0].answers == ("Italy", "Latium")


@pytest.mark.parametrize("name", FILES)
def test_our_own_form_keeps_every_request_of_a_file(name: str) -> None:
    """Through JSON, and whatever of zsRE is edited in."""
    targets: tuple[ZsreTarget, ...] = ("answers", "alt")
    for target in targets:
        for request in read_requests(find(name), zsre_target=target):
            record = json.loads(json.dumps(to_counterfact(request)))
            assert parse_request(record, "here") == request


def test_our_own_form_keeps_every_request_of_ours() -> None:
    """Of every form."""
    for record in (each for records in MADE.values() for each in records):
        request = parse_request(record, "here", 5)
        assert parse_request(to_counterfact(request), "here") == request


@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "RippleEdits",
            {
                "example_type": "recent",
                "edit": {"prompt": "The mayor of Lund is Bo.", "subject_id": "Q1"},
            },
        ),
        ("RippleEdits", {"edit": {"prompt": "a", "relation": "B", "target_id": "Q2"}}),
        ("RippleEdits", {"edit": {}, "Subject_Aliasing": []}),
        ("UnKE", {"question": "a", "answer": "b", "para_question": "c"}),
        ("UnKE", {"question": "a", "answer": "b", "sub_question": ["c"]}),
        ("MMEdit", {**ZSRE, "image": "a.jpg", "m_loc": "b.jpg"}),
        ("zsRE before MEND's split", {"input": "a", "filtered_rephrases": ["b"]}),
    ],
)
def test_a_set_that_is_not_supported_is_named(name: str, record: Record) -> None:
    """And no other form's fields are missed in it."""
    wanted = f"^here: has the form of {name} .*not supported. Known are CounterFact"
    with pytest.raises(RequestError, match=wanted):
        parse_request(record, "here")
