"""Laws of fields: what is said of a bad one is short, and what is null is not there."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from editing.base.errors import RequestError
from editing.base.settings import Settings
from editing.base.validation import explain, shorten
from editing.requests.forms.fields import (
    Answers,
    Label,
    Single,
    Spellings,
    StrObject,
    Template,
    Text,
    check_fields,
    without_nulls,
)

VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


class Inner(Settings):
    """Something to be wrong within."""

    text: Text
    texts: tuple[Text, ...] = ()
    number: int | None = Field(None, strict=True)


class Outer(Settings):
    """Something to be wrong about."""

    inner: Inner
    others: tuple[Inner, ...] = ()
    spelled: Text = Field("a", alias="New One")


@given(value=VALUES)
def test_a_shortened_value_is_one_short_line(value: object) -> None:
    """Whatever came; a list that nests without end, too."""
    for each in (value, [value] * 50):
        written = shorten(each)
        assert len(written) <= 60
        assert len(written.splitlines()) == 1
    deep: object = value
    for _ in range(5000):
        deep = [deep]
    assert len(shorten(deep)) <= 60


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "`inner`: is missing or null; wanted an object."),
        ({"inner": "x"}, "`inner`: wanted an object, got 'x'."),
        ({"inner": {"text": " "}}, "`inner.text`: is empty."),
        (
            {"inner": {"text": "a", "texts": ["a", ""]}},
            "`inner.texts.1`: is empty.",
        ),
        (
            {"inner": {"text": "a", "te\n xt": 1}},
            "`inner.te xt`: unknown field; did you mean `inner.text`?",
        ),
        (
            {"inner": {"tetx": "a"}},
            "`inner.tetx`: unknown field; did you mean `inner.text`?",
        ),
        (
            {"inner": {"text": "a", "q": 1}},
            "`inner.q`: unknown field; known are `text`, `texts`, `number`.",
        ),
        ({"inner": {"text": 3}}, "`inner.text`: wanted a text, got 3."),
        (
            {"inner": {"text": "a", "texts": "b"}},
            "`inner.texts`: wanted a list of texts, got 'b'.",
        ),
        (
            {"inner": {"text": "a", "texts": [3]}},
            "`inner.texts.0`: wanted a text, got 3.",
        ),
        (
            {"inner": {"text": "a", "number": "b"}},
            "`inner.number`: wanted a whole number, got 'b'.",
        ),
        (
            {"inner": {"text": "a"}, "others": {}},
            "`others`: wanted a list of objects, got {}.",
        ),
        (
            {"inner": {"text": "a"}, "others": [{"text": "a", "txt": 1}]},
            "`others.0.txt`: unknown field; did you mean `others.0.text`?",
        ),
        ({"inner": {"text": "a"}, "New One": 3}, "`New One`: wanted a text, got 3."),
    ],
)
def test_a_message_names_the_field(value: dict[str, object], message: str) -> None:
    """By its path, in one line, with what was wanted and what came."""
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    assert explain(caught.value, Outer) == message
    with pytest.raises(RequestError) as refused:
        check_fields(Outer, value)
    assert str(refused.value) == message
    unnamed = explain(caught.value)
    assert unnamed.partition(":")[0] == message.partition(":")[0]


@pytest.mark.parametrize(
    ("kind", "given_value", "read"),
    [
        (Text, " a", " a"),
        (Single, "a", "a"),
        (Single, ["a"], "a"),
        (Template, "{} is", "{} is"),
        (StrObject, {"str": "a", "id": "Q1"}, "a"),
        (Label, "a", "a"),
        (Label, {"label": "a", "id": "Q1"}, "a"),
        (Answers, "a", ("a",)),
        (Answers, ["a", "b", "a"], ("a", "b")),
        (Answers, [["a", "b"], ["c"]], ("a", "b", "c")),
        (Answers, ["a", ["b"]], ("a", "b")),
        (Answers, ["a", " "], ("a",)),
        (Spellings, [["", "a"], ["b"], []], ("a", "b")),
        (Spellings, [[]], ()),
        (Spellings, "", ()),
    ],
)
def test_a_good_field_is_read(
    kind: type[object], given_value: object, read: object
) -> None:
    """A text as it is, also one that begins with a space."""
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    assert adapter.validate_python(given_value) == read


@pytest.mark.parametrize(
    ("kind", "given_value"),
    [
        (Text, 3),
        (Text, "\t"),
        (Single, ["a", "b"]),
        (Single, []),
        (Template, "is"),
        (Template, "{} {}"),
        (StrObject, "a"),
        (StrObject, {"id": "Q1"}),
        (StrObject, {"str": " "}),
        (Label, {"id": "Q1"}),
        (Label, {"label": ""}),
        (Label, 3),
        (Answers, []),
        (Answers, [[]]),
        (Answers, [" "]),
        (Spellings, [["a"], 3]),
        (Spellings, {"a": "b"}),
        (Answers, [["a"], 3]),
        (Answers, [[["a"]]]),
        (Answers, {"a": "b"}),
    ],
)
def test_a_bad_field_is_refused(kind: type[object], given_value: object) -> None:
    """By type and by emptiness."""
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    with pytest.raises(ValidationError):
        adapter.validate_python(given_value)


def nulls(value: object) -> int:
    """Count the fields that are null."""
    if isinstance(value, Mapping):
        return sum(each is None or nulls(each) for each in value.values())
    return sum(nulls(each) for each in value) if isinstance(value, list) else 0


@given(record=st.dictionaries(st.text(), VALUES))
def test_no_null_is_left_and_nothing_else_goes(record: dict[str, object]) -> None:
    """Nulls in lists stay: there they have a place."""
    bare = without_nulls(record, 100)
    assert nulls(bare) == 0
    assert without_nulls(bare, 100) == bare
    if not nulls(record):
        assert bare == record
    assert without_nulls({"a": [None, {"b": None}]}) == {"a": [None, {}]}


def test_what_nests_too_deeply_stays_as_it_is() -> None:
    """No form nests so deeply, so that another check refuses it."""
    deep: object = None
    for _ in range(5000):
        deep = {"a": deep}
    assert without_nulls({"b": deep, "c": None}).keys() == {"b"}
