"""Laws of requests: what is written can be read, and what is wrong is named."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.requests.edit_request import (
    MOVED_NUMBERS,
    EditRequest,
    RequestError,
    parse_request,
    read_requests,
    sample_requests,
    to_counterfact,
)
from tests.editing.records import MQUAKE, both, find, records_of

FLAT: dict[str, object] = {
    "prompt": "The mother tongue of {} is",
    "subject": "Tilda Varnmoor",
    "target_new": "English",
}
TEXTS = st.text(min_size=1).filter(str.strip)
PROMPTS = st.lists(TEXTS, max_size=3).map(tuple)
REQUESTS = st.builds(
    EditRequest,
    case_id=st.integers(0, 2**31),
    prompt=st.tuples(TEXTS, TEXTS)
    .map("{}".join)
    .filter(lambda prompt: prompt.count("{}") == 1),
    subject=TEXTS,
    target_new=TEXTS,
    target_true=st.none() | TEXTS,
    relation_id=st.none() | TEXTS,
    paraphrase_prompts=PROMPTS,
    neighborhood_prompts=PROMPTS,
    attribute_prompts=PROMPTS,
    generation_prompts=PROMPTS,
)


def flat(**changes: object) -> dict[str, object]:
    """Change a good record; None leaves a field out."""
    return {k: v for k, v in (FLAT | changes).items() if v is not None}


def nested(**changes: object) -> dict[str, object]:
    """Write a record in CounterFact form and change its rewrite."""
    rewrite = {**FLAT, "target_new": {"str": "English", "id": "Q1860"}, **changes}
    return {"case_id": 7, "pararel_idx": 2796, "requested_rewrite": rewrite}


def write(folder: Path, text: str, name: str = "requests.json") -> Path:
    """Put text into a file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@given(request=REQUESTS)
def test_what_is_written_in_counterfact_form_reads_back(request: EditRequest) -> None:
    """Every field, through JSON too."""
    record = json.loads(json.dumps(to_counterfact(request)))
    assert parse_request(record, "here") == request


@given(request=REQUESTS)
def test_the_flat_form_is_the_fields_by_name(request: EditRequest) -> None:
    """What pydantic dumps is a flat record."""
    assert parse_request(request.model_dump(mode="json"), "here") == request


@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=4, unique_by=lambda r: r.case_id)
)
def test_json_lines_and_a_json_list_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, requests: list[EditRequest]
) -> None:
    """Signs that are a line's end to others but not to JSON included."""
    folder = tmp_path_factory.mktemp("requests")
    records = [to_counterfact(request) for request in requests]
    lines = "\n\n".join(json.dumps(each, ensure_ascii=False) for each in records)
    assert read_requests(write(folder, json.dumps(records))) == requests
    assert read_requests(write(folder, lines, "requests.jsonl")) == requests


def test_a_counterfact_record_is_read_field_by_field() -> None:
    """As the published files have it; identifiers that no editor reads are left."""
    record = nested(target_true={"str": "French"}, relation_id="P103") | {
        "paraphrase_prompts": ["Tilda Varnmoor, a native"],
        "neighborhood_prompts": ["Osric Pell is a native speaker of"],
        "attribute_prompts": ["M.T. Brandle is a native speaker of"],
        "generation_prompts": ["Tilda Varnmoor was born in"],
    }
    assert parse_request(record, "here") == EditRequest(
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


def test_the_rewrite_prompt_holds_the_subject() -> None:
    """In the place of the braces."""
    request = parse_request(FLAT, "here")
    assert request.rewrite_prompt == "The mother tongue of Tilda Varnmoor is"


def test_records_without_a_number_are_counted(tmp_path: Path) -> None:
    """From 0, in the order of the file."""
    path = write(tmp_path, json.dumps([FLAT, FLAT, FLAT]))
    assert [each.case_id for each in read_requests(path)] == [0, 1, 2]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    assert len(read_requests(write(tmp_path, "\ufeff" + json.dumps([FLAT])))) == 1


@pytest.mark.parametrize("name", ["some.json", "some.jsonl"])
@pytest.mark.parametrize("limit", [None, 1, 2])
def test_what_is_named_is_left_out_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, limit: int | None
) -> None:
    """A bad record too; the others are as they were, and the log has the count."""
    records = [flat(subject="a"), flat(prompt="bad"), flat(subject="b"), FLAT]
    lines = "\n\n".join(map(json.dumps, records))  # with every other line empty
    text = json.dumps(records) if name.endswith("json") else lines
    path, places = (
        write(tmp_path, text, name),
        (2, 3) if name.endswith("json") else (3, 5),
    )
    with pytest.raises(RequestError, match=rf"\D{places[0]}: `prompt` must hold"):
        read_requests(path)
    found = read_requests(path, limit, skip=places)
    kept = [(0, "a"), (3, FLAT["subject"])][:limit]
    assert [(each.case_id, each.subject) for each in found] == kept
    counts = [record.getMessage() for record in caplog.records]
    assert counts == ([f"{path}: left out 2 record(s)"] if limit != 1 else [])
    if limit is None:
        with pytest.raises(RequestError, match="has no record 9, which `skip` leaves"):
            read_requests(path, skip=(9, *places))


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_a_limit_takes_the_first_ones(tmp_path: Path, limit: int) -> None:
    """And does not read what lies after it."""
    path = write(tmp_path, json.dumps([FLAT, FLAT, flat(case_id=9)]))
    everything = read_requests(path)
    assert read_requests(path, limit) == everything[:limit]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (flat(subject=None), r"there:3: `subject`: is missing or null; wanted a text"),
        (flat(target_new=None), "there:3: `target_new`: is missing or null; wanted a"),
        (flat(targt_true="x"), "`targt_true`: .* did you mean `target_true`"),
        (flat(paraphrase_prompt=["a"]), "did you mean `paraphrase_prompts`"),
        (
            flat(paraphrase_prompts="a"),
            "there:3: `paraphrase_prompts`: wanted a list of texts, got 'a'",
        ),
        ({**nested(), "paraphrase_prompt": "a"}, "mean `paraphrase_prompts`"),
        (flat(target_new=7), "there:3: `target_new`: wanted a text, got 7"),
        (flat(case_id=["x"]), "there:3: `case_id`: wanted a whole number, got"),
        (flat(paraphrase_prompts="x"), "there:3: `paraphrase_prompts`: "),
        (flat(paraphrase_prompts=["x", 1]), r"there:3: `paraphrase_prompts\.1`: "),
        (
            flat(neighborhood_prompts=["x", " "]),
            "`neighborhood_prompts` holds an empty",
        ),
        (flat(prompt="of is"), "there:3: `prompt` must hold exactly one {}.* got 0"),
        (flat(prompt="{} of {} is"), "there:3: `prompt` must .* one {}.* got 2"),
        (flat(subject=" "), "there:3: `subject` is empty"),
        (flat(target_new=""), "there:3: `target_new` is empty"),
        (flat(target_true="\t"), "there:3: `target_true` is empty; leave it out"),
        (
            nested(target_new="English"),
            r"`requested_rewrite.target_new`: wants {\"str\"",
        ),
        (nested(target_true={"id": "Q1"}), "`requested_rewrite.target_true`: wants"),
        (
            nested(prompt="no place"),
            "there:3: `requested_rewrite.prompt`: must hold exactly one {}",
        ),
        ({"requested_rewrite": "x"}, "there:3: `requested_rewrite`: wanted an object"),
        (["x"], r"there:3: wanted a JSON object, got \['x'\]"),
    ],
)
def test_a_bad_record_is_refused_by_place_and_field(
    record: object, message: str
) -> None:
    """In one line."""
    with pytest.raises(RequestError, match=message) as caught:
        parse_request(record, "there:3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", json.dumps(FLAT) + "\n\n{", r"a\.jsonl:3: not JSON"),
        ("a.jsonl", json.dumps(FLAT) + "\n[]", r"a\.jsonl:2: wanted a JSON object"),
        ("a.jsonl", "\n", r"a\.jsonl: holds no requests"),
        ("a.json", "[]", r"a\.json: holds no requests"),
        ("a.json", "[\n{,", r"a\.json: record 1: not JSON .*line 2 column 2\)"),
        ("a.json", json.dumps(FLAT), r"wanted a JSON list.*got dict.*\.jsonl"),
        ("a.json", json.dumps([FLAT, flat(subject="")]), "record 2: `subject` is em"),
        (
            "a.json",
            json.dumps([flat(case_id=4), FLAT, flat(case_id=4)]),
            "record 3: `case_id` 4 was used before, at .*record 1",
        ),
    ],
)
def test_a_bad_file_is_refused_by_line_or_record(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    """Nothing is skipped."""
    with pytest.raises(RequestError, match=message) as caught:
        read_requests(write(tmp_path, text, name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    """By its path and what the system says."""
    with pytest.raises(RequestError, match=r"gone\.json: cannot be read \(No such"):
        read_requests(tmp_path / "gone.json")
    with pytest.raises(RequestError, match="cannot be read"):
        read_requests(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(RequestError, match=r"latin\.json: record 1: not UTF-8"):
        read_requests(tmp_path / "latin.json")


@pytest.mark.parametrize("name", both("multi_counterfact"))
def test_a_file_is_read_as_it_is(name: str) -> None:
    """Edge cases included."""
    records, requests = records_of(name), read_requests(find(name))
    assert len(requests) == len(records)
    for request, record in zip(requests, records, strict=True):
        rewrite = record["requested_rewrite"]
        assert request.case_id == record["case_id"]
        assert request.rewrite_prompt == rewrite["prompt"].format(rewrite["subject"])
        assert request.target_new == rewrite["target_new"]["str"]
        assert request.target_true == rewrite["target_true"]["str"]
        assert list(request.neighborhood_prompts) == record["neighborhood_prompts"]


def pool_of(subjects: list[str]) -> list[EditRequest]:
    """Make one request for each name."""
    return [
        EditRequest(case_id=number, prompt="{} is", subject=subject, target_new="x")
        for number, subject in enumerate(subjects)
    ]


@given(
    subjects=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=30),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_a_draw_has_distinct_subjects_of_the_pool(
    subjects: list[str], share: float, seed: int
) -> None:
    """As many as asked for, the same for the same seed."""
    pool = pool_of(subjects)
    count = round(share * len(set(subjects)))
    drawn = sample_requests(pool, count, seed)
    assert len(drawn) == len({each.subject for each in drawn}) == count
    assert all(each in pool for each in drawn)
    assert sample_requests(pool, count, seed) == drawn
    assert sample_requests(pool, len(set(subjects)), seed)[:count] == drawn


def test_seeds_draw_differently_and_evenly() -> None:
    """Every request of a subject can be drawn, in every place."""
    pool = pool_of(["a", "a", "b", "c"])
    draws = [
        tuple(each.case_id for each in sample_requests(pool, 2, seed))
        for seed in range(200)
    ]
    pairs = {(a, b) for a in range(4) for b in range(4) if a != b}
    assert set(draws) == pairs - {(0, 1), (1, 0)}


def test_too_few_subjects_are_an_error() -> None:
    """Say how many there are."""
    with pytest.raises(RequestError, match=r"3 requests with distinct.*has 2 subjects"):
        sample_requests(pool_of(["a", "b", "a"]), 3, 0)


@pytest.mark.parametrize(
    ("given", "number", "name"),
    [
        ("Q42_P108", 6, "Q42_P108"),
        ("12", 12, None),
        (" -3 ", -3, None),
        ("1.5", 6, "1.5"),
        (12, 12, None),
    ],
)
def test_a_case_number_may_be_a_text(
    given: object, number: int, name: str | None
) -> None:
    """Digits are a number; any other text names the case, and the place numbers it."""
    request = parse_request({**FLAT, "case_id": given}, "here", 6)
    assert (request.case_id, request.case_name) == (number, name)
    assert parse_request(to_counterfact(request), "here") == request


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        (["1", "x"], [1, MOVED_NUMBERS + 1]),
        (["x", "0"], [MOVED_NUMBERS, 0]),
        ([2, "x", None], [2, 1, MOVED_NUMBERS + 2]),
        ([MOVED_NUMBERS + 1, "x", 1], [MOVED_NUMBERS + 1, MOVED_NUMBERS + 2, 1]),
        (["x", "x", "y"], [0, 1, 2]),
    ],
)
def test_a_number_made_of_a_place_is_none_that_a_record_gives(
    tmp_path: Path, given: list[object], numbers: list[int]
) -> None:
    """Text ids and missing ones stand next to numbers, before and after them."""
    path = write(tmp_path, json.dumps([flat(case_id=each) for each in given]))
    found = read_requests(path)
    assert [each.case_id for each in found] == numbers
    names = [each if each in ("x", "y") else None for each in given]
    assert [each.case_name for each in found] == names


def test_numbers_of_several_rewrites_are_none_that_a_record_gives(
    tmp_path: Path,
) -> None:
    """Nor those of a record without a number."""
    path = write(tmp_path, json.dumps([MQUAKE, flat(case_id="0"), FLAT]))
    assert [each.case_id for each in read_requests(path)] == [MOVED_NUMBERS, 0, 2]


def test_equal_objects_are_warned_of_by_case(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In whatever spelling; a request without a true object has no such pair."""
    cases = [("Acme", "Acme"), ("Acme", "Lund"), ("Acme", "“acme.”"), ("a", None)]
    records = [
        {**FLAT, "case_id": number, "target_new": new, "target_true": true}
        for number, (new, true) in enumerate(cases)
    ]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(records), "utf-8")
    assert [each.objects_agree for each in read_requests(file)] == [
        True,
        False,
        True,
        False,
    ]
    assert "new and true object are equal in 2 case(s) (0, 2)" in caplog.text


def test_a_record_may_say_whether_its_target_follows_a_space(tmp_path: Path) -> None:
    """It comes before the setting, and our own form keeps it."""
    file = tmp_path / "a.json"
    file.write_text(
        json.dumps(
            [{**FLAT, "case_id": 1}, {**FLAT, "case_id": 2, "target_space": "always"}]
        ),
        "utf-8",
    )
    found = read_requests(file, target_space="never")
    assert [each.target_space for each in found] == ["never", "always"]
    for each in found:
        assert parse_request(to_counterfact(each), "here") == each
