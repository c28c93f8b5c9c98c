"""Laws of forms: a published record means what its authors' programs make of it."""

import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import RequestError
from editing.requests.conflicts import read_conflicts
from editing.requests.edit_request import (
    EditRequest,
    Question,
    parse_request,
    read_requests,
    to_counterfact,
)
from editing.requests.forms.counterfact import from_counterfact
from editing.requests.forms.published import (
    ZsreTarget,
    from_conflict_edit,
    from_flat,
    from_knowedit,
    from_zsre,
    read_form,
    recognise,
    take_subject_out,
)
from tests.editing.records import (
    CONFLICT,
    COUNTERFACT,
    EASY,
    FILES,
    FLAT,
    KNOW_ZSRE,
    MADE,
    RECENT,
    WIKIBIO,
    ZSRE,
    Record,
    both,
    find,
    records_of,
)


@pytest.mark.parametrize("form", MADE)
def test_a_form_is_told_by_its_fields(form: str) -> None:
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
            if first == second:
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


def memit_zsre(record: Record) -> Record:
    """What MEMIT's data set makes of a record, before it tokenizes (the definition)."""
    return {
        "prompt": record["src"].replace(record["subject"], "{}"),
        "subject": record["subject"],
        "target_new": record["answers"][0],
        "paraphrase_prompts": [record["rephrase"]],
        "neighborhood": (record["loc"] + "?", record["loc_ans"]),
    }


@pytest.mark.parametrize("name", both("zsre_mend"))
def test_zsre_is_read_as_memit_does(name: str) -> None:
    """Each record; MEMIT's placeholder for a true target is none."""
    for record in [ZSRE, *records_of(name)]:
        wanted, request = memit_zsre(record), parse_request(record, "here")
        assert request.prompt == wanted["prompt"]
        assert request.subject == wanted["subject"]
        assert request.target_new == wanted["target_new"]
        assert request.target_true is None
        assert list(request.paraphrase_prompts) == wanted["paraphrase_prompts"]
        prompt, answer = wanted["neighborhood"]
        assert request.locality == (Question(prompt=prompt, answers=(answer,)),)
        assert request.neighborhood_prompts == ()
        assert request.portability == ()


@pytest.mark.parametrize("name", both("zsre_mend"))
def test_zsre_can_edit_in_what_mend_does(name: str) -> None:
    """The made-up answer as it is, compared with the truth; nothing else differs."""
    records, path = records_of(name), find(name)
    truths = read_requests(path)
    made_up = read_requests(path, zsre_target="alt")
    for record, truth, alt in zip(records, truths, made_up, strict=True):
        asked = {"target_new": record["alt"], "target_true": record["answers"][0]}
        assert alt == truth.model_copy(update=asked)
        assert truth.rewrite_prompt == record["src"]
    assert any(each.target_new.startswith(" ") for each in made_up)


@pytest.mark.parametrize(
    ("target", "change", "complaint"),
    [
        ("answers", {"answers": []}, "`answers` is empty or not there"),
        ("answers", {"answers": ["  "]}, "`answers` is empty or not there"),
        ("alt", {"alt": ""}, "`alt` is empty or not there"),
        ("alt", {"alt": None}, 'zsre-target = "alt"` edits it in'),
        ("alt", {"subject": "Bo"}, "`src` does not name the subject: .*'Bo'"),
        ("alt", {"src": "Who {} is USS Quill (Q-5)"}, "`src` holds {} already"),
        ("alt", {"loc": None}, "`loc`: is missing or null beside `loc_ans`"),
        ("alt", {"loc_ans": None}, "`loc_ans`: is missing or null beside `loc`"),
    ],
)
def test_a_bad_question_of_zsre_is_named(
    target: ZsreTarget, change: Record, complaint: str
) -> None:
    """What is not edited in may be empty, as it is in published records."""
    with pytest.raises(RequestError, match=complaint):
        parse_request({**ZSRE, **change}, "here", zsre_target=target)
    other: ZsreTarget = "alt" if target == "answers" else "answers"
    if "alt" in change or "answers" in change:
        assert parse_request({**ZSRE, **change}, "here", zsre_target=other)


def test_zsre_of_easyedit_asks_for_what_follows() -> None:
    """Its new question follows from the made-up answer, and from no other."""
    asked = {"New Question": "Where is the yard?", "New Answer": "Kiel"}
    record = {**ZSRE, "portability": {"Recalled Relation": "(a, b, c)", **asked}}
    assert recognise(record) == "zsRE"
    assert from_zsre(record, "alt")["portability"] == (
        {"prompt": "Where is the yard?", "answers": ("Kiel",)},
    )
    assert from_zsre(record, "answers")["portability"] == ()


@pytest.mark.parametrize("target", ["answers", "alt"])
def test_zsre_of_easyedit_has_other_names_and_backward_questions(
    target: ZsreTarget,
) -> None:
    """The other name asks for what is edited in; backwards `alt` gives the subject."""
    other = {"alternative_subject": "Quill", "alter_subject_question": "Quill's yard?"}
    backward = {"inverse question": "What did West-Yard build?"}
    request = parse_request({**ZSRE, **other, **backward}, "here", 0, target)
    asked = Question(prompt="Quill's yard?", answers=(request.target_new,))
    back = Question(prompt="What did West-Yard build?", answers=("USS Quill (Q-5)",))
    assert request.portability == ((asked, back) if target == "alt" else (asked,))
    plain = parse_request(ZSRE, "here", 0, target)
    assert request.model_copy(update={"portability": ()}) == plain


@pytest.mark.parametrize("record", [COUNTERFACT, EASY])
def test_a_new_question_is_read_in_other_forms(record: Record) -> None:
    """Beside CounterFact's rewrite, and in EasyEdit's short form."""
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


@pytest.mark.parametrize("name", both("conflict_edit", "conflict_edit_planted"))
def test_conflictedit_asks_for_the_right_side(name: str) -> None:
    """Numbered in turn; both sides are what `read_conflicts` reads."""
    requests, pairs = read_requests(find(name)), read_conflicts(find(name))
    assert [each.case_id for each in requests] == list(range(len(pairs)))
    for request, pair in zip(requests, pairs, strict=True):
        assert request.model_copy(update={"case_id": pair.right.case_id}) == pair.right


def test_objects_of_conflictedit_are_texts_or_have_one() -> None:
    """The planted object is the true target, or else what was known before."""
    wanted = from_conflict_edit(CONFLICT)
    assert wanted["target_new"] == "the North School"
    assert wanted["target_true"] == "the West School"
    assert wanted["paraphrase_prompts"] == ("Where did Ada Quill study?",)
    spelled = deepcopy(CONFLICT)
    spelled["edit"]["new_object"] = {"id": "Q2", "label": "the North School"}
    spelled["edit"]["conflict_object"] = "the West School"
    spelled["edit"]["subject"] = "Ada Quill"
    assert from_conflict_edit(spelled) == wanted
    del spelled["edit"]["conflict_object"]
    assert from_conflict_edit(spelled)["target_true"] == "the South School"


def test_the_flat_form_is_the_fields_by_name() -> None:
    """Nothing is renamed."""
    assert from_flat(FLAT) == FLAT
    assert read_form(FLAT, "answers") == FLAT
    assert parse_request(FLAT, "here").locality[0].answers == ("Italy", "Latium")


WORDS = st.text(st.characters(exclude_characters="{}", categories=("L", "N", "P")))


@given(before=WORDS, subject=WORDS.filter(bool), after=WORDS)
def test_a_subject_that_is_taken_out_can_be_put_back(
    before: str, subject: str, after: str
) -> None:
    """Whatever signs it has, the prompt with it is the text again."""
    text = f"{before} {subject} {after}"
    prompt, spelled = take_subject_out(text, subject, "src")
    assert spelled == subject
    assert prompt.count("{}") == 1
    assert prompt.replace("{}", spelled) == text


@pytest.mark.parametrize(
    ("text", "subject", "prompt", "spelled"),
    [
        ("Is it in Italy?", "it", "Is {} in Italy?", "it"),
        ("Italy has it", "it", "Italy has {}", "it"),
        ("Who is Bo's Bo?", "Bo", "Who is {}'s Bo?", "Bo"),
        ("Kielers know", "Kiel", "{}ers know", "Kiel"),
        ("who is ada  QUILL?", "Ada Quill", "who is {}?", "ada  QUILL"),
        ("who is ada\u00a0quill?", " Ada\tQuill ", "who is {}?", "ada\u00a0quill"),
        ("ada met Ada", "Ada", "ada met {}", "Ada"),
        ("What is C++ (1.0)?", "C++ (1.0)", "What is {}?", "C++ (1.0)"),
    ],
)
def test_a_subject_is_found_as_it_is_spelled(
    text: str, subject: str, prompt: str, spelled: str
) -> None:
    """Words before parts of words, and the exact spelling before a loose one."""
    assert take_subject_out(text, subject, "src") == (prompt, spelled)


@pytest.mark.parametrize("text", ["Who is Bo?", "", "Ada", "{} Ada Quill", "AdaQuill"])
def test_a_subject_that_is_not_there_is_refused(text: str) -> None:
    """By the field that should name it."""
    with pytest.raises(RequestError, match=r"^`src` (does not name|holds)"):
        take_subject_out(text, "Ada Quill", "src")


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
