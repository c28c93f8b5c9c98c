"""Laws of forms: a published record means what its authors' programs make of it."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.conflicts import read_conflicts
from editing.errors import RequestError
from editing.request_forms import (
    ZsreTarget,
    from_conflict_edit,
    from_counterfact,
    from_flat,
    from_knowedit,
    from_zsre,
    read_form,
    recognise,
    take_subject_out,
)
from editing.requests import (
    EditRequest,
    Question,
    parse_request,
    read_requests,
    to_counterfact,
)
from tests.trees import ROOT

Record = dict[str, Any]

FLAT: Record = {
    "case_id": 3,
    "prompt": "The mother tongue of {} is",
    "subject": "Danielle Darrieux",
    "target_new": "English",
    "target_true": "French",
    "relation_id": "P103",
    "paraphrase_prompts": ["Danielle Darrieux, a native"],
    "locality": [{"prompt": "Rome is in", "answers": ["Italy", "Latium"]}],
}
COUNTERFACT: Record = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "subject": "Danielle Darrieux",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "relation_id": "P103",
    },
    "paraphrase_prompts": ["Danielle Darrieux, a native"],
    "neighborhood_prompts": ["Michel Rocard is a native speaker of"],
    "attribute_prompts": ["J.R.R. Tolkien is a native speaker of"],
    "generation_prompts": ["Danielle Darrieux was born in"],
}
ZSRE: Record = {
    "subject": "USS Quill (Q-5)",
    "src": "Which was the yard of USS Quill (Q-5)?",
    "pred": "North Yard",
    "rephrase": "Which yard built USS Quill (Q-5)?",
    "alt": " West-Yard",
    "answers": ["South Yard", "the South"],
    "loc": "nq question: who wrote the book of hours",
    "loc_ans": "Ada Quill",
    "cond": "North Yard >>  West-Yard || Which was the yard of USS Quill (Q-5)?",
}
RECENT: Record = {
    "subject": "Ada Quill",
    "prompt": "The place of death of Ada Quill is",
    "target_new": "Lund",
    "portability": {
        "Logical_Generalization": [
            {"prompt": "Is Ada Quill alive?", "ground_truth": [["no"], ["is dead"]]}
        ],
        "Reasoning": [
            {"prompt": "Ada Quill died in", "ground_truth": [["Skåne", "Scania"]]}
        ],
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The father of Ada Quill is", "ground_truth": [["Bo Quill"]]},
            {"prompt": ["The work of Ada Quill is"], "ground_truth": ["physics"]},
        ]
    },
}
KNOW_ZSRE: Record = {
    **RECENT,
    "prompt": "Where did Ada Quill die?",
    "ground_truth": ["Kiel", "Kiel, Germany"],
    "rephrase_prompt": "Which town did Ada Quill die in?",
    "cond": "Bonn >> Lund || Where did Ada Quill die?",
    "portability": {"Reasoning": [{"prompt": "Land?", "ground_truth": "Sweden"}]},
}
WIKIBIO: Record = {
    "text": "This is a Wikipedia passage about ada quill. Ada Quill (1828 - 1896) was",
    "labels": "She was educated at Lund.",
    "concept": "ada quill",
    "locality": {
        "Relation_Specificity": [
            {"prompt": "ada quill field of work", "ground_truth": ["medicine"]}
        ]
    },
}
EASY: Record = {
    "case_id": 4,
    "prompt": "The mother tongue of Ada Quill is",
    "target_new": "English",
    "subject": "Ada Quill",
    "ground_truth": "Swedish",
    "rephrase_prompt": "Rain fell. Ada Quill spoke",
    "locality_prompt": "The mother tongue of Bo is",
    "locality_ground_truth": "Danish",
}
CONFLICT: Record = {
    "type": "1-2@P69",
    "edit": {
        "relation": {
            "id": "P69",
            "prompt": "{} was educated at",
            "query": "Where did {} study?",
            "label": "educated at",
        },
        "subject": {"id": "Q1", "label": "Ada Quill"},
        "new_object": "the North School",
        "object": {"id": "Q3", "label": "the South School"},
        "conflict_object": {"id": "Q-2", "label": "the West School"},
    },
    "true_objects": [{"id": "Q3", "label": "the South School"}],
}
MADE: dict[str, list[Record]] = {
    "flat": [FLAT],
    "CounterFact": [COUNTERFACT],
    "zsRE": [ZSRE],
    "KnowEdit": [RECENT, KNOW_ZSRE, WIKIBIO, EASY],
    "ConflictEdit": [CONFLICT],
}
PUBLISHED = {
    "multi_counterfact_sample.json": ("CounterFact", 46),
    "zsre_mend_sample.json": ("zsRE", 8),
    "conflict_edit_sample.json": ("ConflictEdit", 100),
    "conflict_edit_planted_sample.json": ("ConflictEdit", 100),
}


def published(name: str) -> list[Record]:
    """Read a file of published records."""
    path = find(name)
    records: list[Record] = json.loads(path.read_text("utf-8"))
    return records


def find(name: str) -> Path:
    """Find a file of published records."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"no published records at {path}")
    return path


@pytest.mark.parametrize("form", MADE)
def test_a_form_is_told_by_its_fields(form: str) -> None:
    """Also where a record lacks any one of them, or all that may be missing."""
    for record in MADE[form]:
        assert recognise(record) == form
        for field in record:
            less = {key: value for key, value in record.items() if key != field}
            if field != "requested_rewrite":
                assert recognise(less) == form, field


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_record_is_read(name: str) -> None:
    """As many as there are, each in its form."""
    form, count = PUBLISHED[name]
    records = published(name)
    assert {recognise(record) for record in records} == {form}
    assert len(read_requests(find(name))) == len(records) == count


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
        subject="Danielle Darrieux",
        target_new="English",
        target_true="French",
        relation_id="P103",
        paraphrase_prompts=("Danielle Darrieux, a native",),
        neighborhood_prompts=("Michel Rocard is a native speaker of",),
        attribute_prompts=("J.R.R. Tolkien is a native speaker of",),
        generation_prompts=("Danielle Darrieux was born in",),
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


def test_zsre_is_read_as_memit_does() -> None:
    """Published records and ours; MEMIT's placeholder for a true target is none."""
    path = ROOT.parent / "shared" / "data" / "zsre_mend_sample.json"
    for record in [ZSRE, *(published(path.name) if path.is_file() else [])]:
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


def test_zsre_can_edit_in_what_mend_does() -> None:
    """The made-up answer as it is, judged against the truth; nothing else differs."""
    records = published("zsre_mend_sample.json")
    truths = read_requests(find("zsre_mend_sample.json"))
    made_up = read_requests(find("zsre_mend_sample.json"), zsre_target="alt")
    for record, truth, alt in zip(records, truths, made_up, strict=True):
        asked = {"target_new": record["alt"], "target_true": record["answers"][0]}
        assert alt == truth.model_copy(update=asked)
    assert made_up[4].target_new == " Clairmont-Mayer"
    assert truths[3].rewrite_prompt == records[3]["src"]


@pytest.mark.parametrize(
    ("target", "change", "complaint"),
    [
        ("answers", {"answers": []}, "`answers` is empty or not there"),
        ("answers", {"answers": ["  "]}, "`answers` is empty or not there"),
        ("alt", {"alt": ""}, "`alt` is empty or not there"),
        ("alt", {"alt": None}, 'zsre-target = "alt"` edits it in'),
        ("alt", {"subject": "Bo"}, "`src` does not name the subject: .*'Bo'"),
        ("alt", {"src": "Who {} is USS Quill (Q-5)"}, "`src` holds {} already"),
        ("alt", {"loc": None}, "`loc`: Field required beside `loc_ans`"),
        ("alt", {"loc_ans": None}, "`loc_ans`: Field required beside `loc`"),
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
    """Its portability is one new question."""
    asked = {"New Question": "Where is the yard?", "New Answer": "Kiel"}
    record = {**ZSRE, "portability": {"Recalled Relation": "(a, b, c)", **asked}}
    assert recognise(record) == "zsRE"
    assert from_zsre(record)["portability"] == (
        {"prompt": "Where is the yard?", "answers": ("Kiel",)},
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
    assert from_knowedit({**RECENT, "rephrase": ["a", "b"]})["paraphrase_prompts"] == (
        "a",
        "b",
    )


@pytest.mark.parametrize(
    "name", ["conflict_edit_sample.json", "conflict_edit_planted_sample.json"]
)
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


FREE = re.compile(
    r"(pararel_idx|pred|cond|.*\.id|.*\.relation\.label|true_objects\.\d+\.id)$"
)
"""Fields whose value no editor reads, or that may be anything."""

MAY_MISS = re.compile(
    r"(case_id|pararel_idx|pred|cond|type|true_objects|rephrase|rephrase_prompt|"
    r"ground_truth|target_true|relation_id|locality|portability|alt|.*_prompts|"
    r".*\.id|.*\.target_true|.*\.relation_id|.*\.query|.*\.relation\.label|"
    r".*\.conflict_object|locality\.\w+|portability\.\w+)$"
)
"""Fields without which a record is whole."""

MAY_BE_EMPTY = re.compile(
    r"(.*_prompts|true_objects|locality|portability|type|alt|.*\.relation_id|"
    r"relation_id|.*\.query|locality\.\w+|portability\.\w+)$"
)
"""Lists that may hold nothing, and texts that may say nothing."""


def paths(value: object, prefix: str = "") -> Iterator[str]:
    """Name every field of a record, and every field of those in its lists."""
    if isinstance(value, Mapping):
        inner: Any = value.items()
    elif isinstance(value, list):
        inner = [(each, field) for each, field in enumerate(value) if prefix]
    else:
        return
    for key, field in inner:
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield path
        yield from paths(field, f"{path}.")


def change(record: Record, path: str, value: object) -> Record:
    """Set a field; None takes it out."""
    changed = deepcopy(record)
    *outer, last = path.split(".")
    level: Any = changed
    for step in outer:
        level = level[int(step)] if isinstance(level, list) else level[step]
    if value is None:
        del level[last]
    else:
        level[last] = value
    return changed


def at(record: Record, path: str) -> object:
    """Read a field."""
    level: Any = record
    for step in path.split("."):
        level = level[int(step)] if isinstance(level, list) else level[step]
    return level


def empty(value: object) -> object:
    """Empty a value of its kind."""
    emptied: dict[type[object], object] = {str: " ", list: [], dict: {}}
    return emptied.get(type(value), "")


def assert_refused(record: Record, path: str, target: ZsreTarget) -> None:
    """The message begins with the place, and names the field or one around it."""
    with pytest.raises(RequestError) as caught:
        parse_request(record, "a.jsonl:3", zsre_target=target)
    message = str(caught.value)
    assert message.startswith("a.jsonl:3: "), message
    assert "\n" not in message
    named = set(re.findall(r"`([^`]+)`", message))
    steps = path.split(".")
    around = {".".join(steps[: end + 1]) for end in range(len(steps))}
    assert named & around or any(each.startswith(f"{path}.") for each in named), message


def break_fields(record: Record, target: ZsreTarget = "answers") -> int:
    """Drop, mistype and empty every field in turn; count what was refused."""
    refused = 0
    for path in paths(record):
        value = at(record, path)
        broken = [change(record, path, {"odd": 7.5} if value != {} else 3)]
        if FREE.fullmatch(path):
            broken = []
        if not MAY_MISS.fullmatch(path):
            broken.append(change(record, path, None))
        if not (MAY_BE_EMPTY.fullmatch(path) or FREE.fullmatch(path)):
            broken.append(change(record, path, empty(value)))
        for each in broken:
            assert_refused(each, path, target)
            refused += 1
        if MAY_MISS.fullmatch(path):
            left = change(record, path, None)
            assert parse_request(left, "here", zsre_target=target)
            nulled = change(record, path, 0)
            *outer, last = path.split(".")
            holder: Any = at(nulled, ".".join(outer)) if outer else nulled
            holder[last] = None
            read = parse_request(nulled, "here", zsre_target=target)
            assert read == parse_request(left, "here", zsre_target=target)
    return refused


@pytest.mark.parametrize("form", MADE)
def test_every_broken_field_is_named_by_place_and_field(form: str) -> None:
    """One after the other; a null is a field that is not there."""
    for record in MADE[form]:
        assert break_fields(record) >= 6


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_broken_field_of_published_records_is_named(name: str) -> None:
    """A dozen records of each file, spread over it."""
    records = published(name)
    for record in records[:: max(1, len(records) // 12)]:
        assert break_fields(record) >= 10
        assert parse_request(record, "here")


@pytest.mark.parametrize("form", MADE)
def test_an_unknown_field_is_refused_by_name(form: str) -> None:
    """A misspelt one would be a silent default."""
    for record in MADE[form]:
        assert_refused({**record, "targt_true": "x"}, "targt_true", "answers")


@pytest.mark.parametrize("name", PUBLISHED)
def test_our_own_form_keeps_every_published_request(name: str) -> None:
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
