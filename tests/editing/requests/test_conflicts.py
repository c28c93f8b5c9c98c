"""Laws of contradictions: both sides are on one fact, and what is wrong is named."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from editing.requests.conflicts import conflicting, parse_conflict, read_conflicts
from editing.requests.edit_request import EditRequest, RequestError
from editing.requests.normalise import normalise
from strategies.conflicts.blind_tokens import blind
from tests.editing.records import both, find

RECORD: dict[str, Any] = {
    "type": "1-2@P69",
    "edit": {
        "relation": {
            "id": "P69",
            "prompt": "{} was educated at",
            "query": "Where did {} study?",
            "label": "educated at",
        },
        "subject": {"id": "Q1", "label": "Ada Quill"},
        "new_object": {"id": "Q2", "label": "the North School"},
        "object": {"id": "Q3", "label": "the South School"},
    },
    "true_objects": [{"id": "Q3", "label": "the South School"}],
}
PLANTED = {"id": "Q-2", "label": "the West School"}
REQUEST = EditRequest(
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


def change(path: str, value: object = None) -> dict[str, Any]:
    """Set one field of the good record by its dotted name; None takes it out."""
    record = deepcopy(RECORD)
    *tables, field = path.split(".")
    level = record
    for table in tables:
        level = level[table]
    if value is None:
        del level[field]
    else:
        level[field] = value
    return record


def write(folder: Path, value: object) -> Path:
    """Put JSON into a file."""
    path = folder / "conflicts.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture(params=both("conflict_edit", "conflict_edit_planted"))
def sample(request: pytest.FixtureRequest) -> Path:
    """Find a file of records in ConflictEdit's form."""
    return find(str(request.param))


def label(value: Any) -> str:  # noqa: ANN401 - a JSON value
    """Read a name however the published file has it."""
    return str(value if isinstance(value, str) else value["label"])


def test_files_are_read_as_they_are(sample: Path) -> None:
    """With and without a planted object, which may be a text or an object."""
    records = json.loads(sample.read_text(encoding="utf-8"))
    pairs = read_conflicts(sample)
    assert len(pairs) == len(records) > 0
    for pair, record in zip(pairs, records, strict=True):
        edit = record["edit"]
        planted = label(edit.get("conflict_object", edit["object"]))
        for side in (pair.right, pair.conflicting):
            assert side.subject == label(edit["subject"])
            assert side.prompt == edit["relation"]["prompt"]
            assert side.relation_id == edit["relation"]["id"]
        assert pair.right.target_new == label(edit["new_object"])
        assert pair.right.target_true == pair.conflicting.target_new == planted
        same = normalise(planted) == normalise(label(edit["new_object"]))
        assert pair.contradicts != same


def test_case_numbers_of_a_file_differ(tmp_path: Path) -> None:
    """So that both sides can be edited and evaluated in one run; a limit moves none."""
    path = write(tmp_path, [RECORD] * 4)
    pairs = read_conflicts(path)
    sides = [each for pair in pairs for each in (pair.right, pair.conflicting)]
    assert [each.case_id for each in sides] == list(range(8))
    assert read_conflicts(path, limit=3) == pairs[:3]


def test_without_a_planted_object_the_old_one_contradicts() -> None:
    """The right request is evaluated against it, and it against the right request."""
    pair = parse_conflict(RECORD, "here", 4)
    assert pair.right == EditRequest(
        case_id=8,
        prompt="{} was educated at",
        subject="Ada Quill",
        target_new="the North School",
        target_true="the South School",
        relation_id="P69",
        paraphrase_prompts=("Where did Ada Quill study?",),
    )
    assert pair.conflicting == pair.right.model_copy(
        update={
            "case_id": 9,
            "target_new": "the South School",
            "target_true": "the North School",
        }
    )
    assert pair.contradicts


def test_a_planted_object_contradicts_instead_of_the_old_one() -> None:
    """Whether the objects are texts or have an identifier."""
    for planted in (PLANTED, "the West School"):
        record = change("edit.conflict_object", planted)
        record["edit"]["new_object"] = "the North School"
        pair = parse_conflict(record, "here")
        assert pair.right.target_new == pair.conflicting.target_true
        assert pair.right.target_new == "the North School"
        assert pair.right.target_true == pair.conflicting.target_new
        assert pair.conflicting.target_new == "the West School"


def test_a_record_that_contradicts_nothing_is_read_and_says_so() -> None:
    """Published files hold some; the reader of the pair decides."""
    record = change("edit.conflict_object", "The North School.")
    pair = parse_conflict(record, "here")
    assert not pair.contradicts
    assert pair.conflicting.target_new == "The North School."


@pytest.mark.parametrize("query", [None, "Where was the study?"])
def test_a_query_without_a_place_for_the_subject_is_no_paraphrase(
    query: str | None,
) -> None:
    """Nor one that is not there."""
    pair = parse_conflict(change("edit.relation.query", query), "here")
    assert pair.right.paraphrase_prompts == pair.conflicting.paraphrase_prompts == ()


def test_what_no_editor_reads_may_be_missing() -> None:
    """Identifiers, the type and the list of true objects."""
    bare = change("edit.relation.id")
    del bare["type"], bare["true_objects"], bare["edit"]["relation"]["label"]
    pair = parse_conflict(bare, "here")
    assert pair.right.relation_id is None
    assert pair.right.target_new == "the North School"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (["a list"], r"record 2: wanted a JSON object, got \['a list'\]"),
        (change("edit"), r"record 2: `edit`: is missing or null"),
        (change("edit.subject"), r"record 2: `edit\.subject`: is missing or null"),
        (change("edit.subject", {"id": "Q1"}), r"`edit\.subject`: wants a text or"),
        (change("edit.subject", "  "), r"`edit\.subject`: is empty\."),
        (change("edit.new_object", 3), r"`edit\.new_object`: wants a text.*got 3"),
        (change("edit.object"), r"record 2: `edit\.object`: is missing or null"),
        (change("edit.conflict_object", {}), r"`edit\.conflict_object.*: wants"),
        (change("edit.conflict_objct", "x"), r"mean `edit\.conflict_object`\?$"),
        (change("edit.relation"), r"record 2: `edit\.relation`: is missing or null"),
        (
            change("edit.relation.prompt"),
            r"`edit\.relation\.prompt`: is missing or null",
        ),
        (change("edit.relation.prompt", "is"), r"`edit\.relation\.prompt`: must hold"),
        (change("true_objects", [3]), r"record 2: `true_objects\.0`: wants a text"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, record: object, message: str) -> None:
    """By file, number and field."""
    with pytest.raises(RequestError, match=message) as caught:
        read_conflicts(write(tmp_path, [RECORD, record]))
    assert str(caught.value).startswith(f"{tmp_path / 'conflicts.json'}: record 2: ")


@pytest.mark.parametrize("value", [{}, RECORD, "text"])
def test_a_file_without_records_is_named(tmp_path: Path, value: object) -> None:
    """A single record outside of a list, too."""
    with pytest.raises(RequestError, match=r"conflicts\.json: wanted a JSON list"):
        read_conflicts(write(tmp_path, value))
    with pytest.raises(RequestError, match=r"conflicts\.json: holds no records"):
        read_conflicts(write(tmp_path, []))


def test_a_file_that_is_not_there_or_not_json_is_named(tmp_path: Path) -> None:
    """With the reason."""
    path = tmp_path / "conflicts.json"
    with pytest.raises(RequestError, match=r"conflicts\.json: cannot be read"):
        read_conflicts(path)
    path.write_bytes(b'["\xe9"]')
    with pytest.raises(RequestError, match=r"conflicts\.json: record 1: not UTF-8"):
        read_conflicts(path)


def test_a_planted_conflict_asks_for_another_object_of_one_fact() -> None:
    """The truth and the prompts that rest on it stay; those of the old object go."""
    planted = conflicting(REQUEST, "German", 12)
    assert planted == REQUEST.model_copy(
        update={"case_id": 12, "target_new": "German", "attribute_prompts": ()}
    )
    ours, theirs = blind(REQUEST, bytes(32)), blind(planted, bytes(32))
    assert ours.fact == theirs.fact
    assert ours.target != theirs.target


def test_asking_for_the_truth_is_evaluated_against_the_request() -> None:
    """A request is never compared with itself, nor neighbours by what is not true."""
    planted = conflicting(REQUEST, "french", 12)
    assert planted.target_new == "french"
    assert planted.target_true == "English"
    assert planted.neighborhood_prompts == ()
    assert planted.paraphrase_prompts == REQUEST.paraphrase_prompts


@pytest.mark.parametrize("target", ["English", " english.", " "])
def test_the_same_object_is_no_conflict(target: str) -> None:
    """In any spelling; and nothing is no object."""
    with pytest.raises(RequestError, match=r"case 7: asking for .* contradicts no"):
        conflicting(REQUEST, target, 12)
