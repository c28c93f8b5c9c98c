"""Laws of zsRE's form and WikiBigEdit's: what MEMIT, MEND and EasyEdit ask for."""

import json
from pathlib import Path

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import (
    EditRequest,
    Question,
    parse_request,
    read_requests,
)
from editing.requests.forms.benchmarks import TEACHER_FORCED
from editing.requests.forms.recognise import recognise
from editing.requests.forms.zsre import ZsreTarget, from_zsre
from editing.requests.questions import BenchmarkQuestion
from tests.editing.records import (
    WIKIBIGEDIT,
    ZSRE,
    Record,
    both,
    find,
    records_of,
)


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
    ("target", "change", "message"),
    [
        ("answers", {"answers": []}, "`answers` is empty or not there"),
        ("answers", {"answers": ["  "]}, "`answers` is empty or not there"),
        ("alt", {"alt": ""}, "`alt` is empty or not there"),
        ("alt", {"alt": None}, 'zsre-target = "alt"` edits it in'),
        ("alt", {"subject": "Bo"}, "`src` does not name the subject: .*'Bo'"),
        ("alt", {"src": "Who {} is USS Quill (Q-5)"}, "`src` holds {} already"),
        ("alt", {"loc": None}, "`loc`: is missing or null next to `loc_ans`"),
        ("alt", {"loc_ans": None}, "`loc_ans`: is missing or null next to `loc`"),
    ],
)
def test_a_bad_question_of_zsre_is_named(
    target: ZsreTarget, change: Record, message: str
) -> None:
    """What is not edited in may be empty, as it is in published records."""
    with pytest.raises(RequestError, match=message):
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


def test_wikibigedit_is_zsre_under_other_names() -> None:
    """Two paraphrases, the old question as locality, two steps as portability."""
    assert parse_request(WIKIBIGEDIT, "here", 4) == EditRequest(
        case_id=4,
        prompt="Who runs {}?",
        subject="Quill Ferry",
        target_new="North Lines",
        paraphrase_prompts=(
            "Which firm is Quill Ferry run by?",
            "Ahoy! Who be runnin' Quill Ferry?",
        ),
        locality=(Question(prompt="Who runs Lund Ferry?", answers=("South Lines",)),),
        portability=(
            Question(
                prompt="Where does the firm that runs Quill Ferry sit?",
                answers=("Kiel",),
            ),
        ),
        relation_id="P137",
        benchmark_questions=tuple(
            BenchmarkQuestion(kind=kind, prompt=f"Q: {question} A:", answers=(answer,))
            for kind, question, answer in zip(
                TEACHER_FORCED,
                (
                    "Who runs Quill Ferry?",
                    "Which firm is Quill Ferry run by?",
                    "Ahoy! Who be runnin' Quill Ferry?",
                    "Where does the firm that runs Quill Ferry sit?",
                    "Who runs Lund Ferry?",
                ),
                ("North Lines", "North Lines", "North Lines", "Kiel", "South Lines"),
                strict=True,
            )
        ),
    )
    for field in ("rephrase", "personas"):
        less = {key: WIKIBIGEDIT[key] for key in WIKIBIGEDIT if key != field}
        assert len(parse_request(less, "here").paraphrase_prompts) == 1
        kinds = {q.kind for q in parse_request(less, "here").benchmark_questions}
        assert len(kinds) == len(TEACHER_FORCED) - 1
    with pytest.raises(RequestError, match="`mhop_ans`: is missing or null next to"):
        parse_request({**WIKIBIGEDIT, "mhop_ans": None}, "here")


EMPTY = [
    *[(WIKIBIGEDIT, fields) for fields in (["rephrase"], ["personas"])],
    *[(WIKIBIGEDIT, fields) for fields in (["mhop", "mhop_ans"], ["loc", "loc_ans"])],
    *[(ZSRE, fields) for fields in (["rephrase"], ["loc", "loc_ans"])],
]


@pytest.mark.parametrize(("record", "fields"), EMPTY)
def test_an_empty_optional_text_is_absent(record: Record, fields: list[str]) -> None:
    """As null is; an answer whose question is empty is refused, as without it."""
    emptied = parse_request(record | dict.fromkeys(fields, ""), "here")
    assert emptied == parse_request(record | dict.fromkeys(fields), "here")
    assert emptied != parse_request(record, "here")
    if len(fields) == 2:
        with pytest.raises(RequestError, match=f"`{fields[0]}`: is missing or null"):
            parse_request(record | {fields[0]: ""}, "here")


def test_wikibigedit_says_that_a_text_is_not_there_as_pandas_does(
    tmp_path: Path,
) -> None:
    """With ``NaN``, which no other record may hold."""
    record = WIKIBIGEDIT | dict.fromkeys(["tag", "mhop", "mhop_ans"], float("nan"))
    bare = {key: value for key, value in record.items() if value == value}
    for name, whole in (("a.json", [record, bare]), ("a.jsonl", record)):
        file = tmp_path / name
        file.write_text(json.dumps(whole), "utf-8")
        for request in read_requests(file):
            assert request.portability == ()
            assert len(request.benchmark_questions) == len(TEACHER_FORCED) - 1
    file = tmp_path / "b.json"
    file.write_text(json.dumps([ZSRE | {"pred": float("nan")}]), "utf-8")
    with pytest.raises(RequestError, match=r"b\.json: record 1: not JSON .*NaN"):
        read_requests(file)
    file.write_text(json.dumps([WIKIBIGEDIT | {"ans": float("nan")}]), "utf-8")
    with pytest.raises(RequestError, match=r"record 1: `ans`"):
        read_requests(file)
