"""Whatever field of whatever form is broken, the message names it."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest

from editing.base.errors import RequestError
from editing.requests.edit_request import parse_request
from editing.requests.forms.zsre import ZsreTarget
from tests.editing.records import FILES, MADE, Record, records_of

FREE = re.compile(
    r"(pararel_idx|pred|cond|.*\.id|.*\.relation\.label|true_objects\.\d+\.id|"
    r"id|source|tag|answer|answer_alias|(new_)?single_hops|orig|orig\..*|"
    r"new_single_hops\.\d+\.cloze|(subject|object)_id|relation|object)$"
)
"""Fields whose value no editor reads, or that may be anything."""

MAY_MISS = re.compile(
    r"(case_id|pararel_idx|pred|cond|type|true_objects|rephrase|rephrase_prompt|"
    r"id|source|tag|answer|answer_alias|(new_)?single_hops|orig|personas|questions|"
    r"target_old|new_answer|new_answer_alias|requested_rewrite\.\d+\.question|"
    r"ground_truth|target_true|relation_id|locality|portability|alt|.*_prompts|"
    r".*\.id|.*\.target_true|.*\.relation_id|.*\.query|.*\.relation\.label|"
    r"(subject|object)_id|relation|object|new_single_hops\.\d+\.(cloze|answer_alias)|"
    r"orig\..*|.*\.conflict_object|locality\.\w+|portability\.\w+)$"
)
"""Fields without which a record is whole."""

MAY_BE_EMPTY = re.compile(
    r"(.*_prompts|true_objects|locality|portability|type|alt|.*\.relation_id|"
    r"relation_id|.*\.query|locality\.\w+|portability\.\w+|(.*\.)?ground_truth|"
    r"questions|new_answer_alias|new_single_hops\.\d+\.answer_alias|(locality|portability)\.\d+\.answer)$"
)
"""Lists that may hold nothing, and texts that may say nothing."""


RAW = re.compile("Field required|Extra inputs|Input should|Value error|valid tuple")
"""Words of the library that checks records, which say nothing of them."""


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
    assert not RAW.search(message), message
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


@pytest.mark.parametrize("name", FILES)
def test_every_broken_field_of_a_file_is_named(name: str) -> None:
    """A dozen records of each file, spread over it."""
    records = records_of(name)
    for record in records[:: max(1, len(records) // 12)]:
        assert break_fields(record) >= 10
        assert parse_request(record, "here")


@pytest.mark.parametrize("form", MADE)
def test_an_unknown_field_is_refused_by_name(form: str) -> None:
    """A misspelt one would be a silent default."""
    for record in MADE[form]:
        assert_refused({**record, "targt_true": "x"}, "targt_true", "answers")


@pytest.mark.parametrize("form", MADE)
def test_half_a_surrogate_pair_is_refused_in_every_text(form: str) -> None:
    """By record and field, as JSON spells a text that was cut inside an emoji."""
    for record in MADE[form]:
        for path in paths(record):
            if not isinstance(at(record, path), str):
                continue
            half = json.loads(json.dumps("cut \ud83d"))
            with pytest.raises(RequestError) as caught:
                parse_request(change(record, path, half), "a.json: record 3")
            assert str(caught.value).startswith(
                f"a.json: record 3: `{path}`: wants a text in Unicode, got half a"
            )
            str(caught.value).encode()
