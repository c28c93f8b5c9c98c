"""A JSON file holds numbers that every reader of JSON accepts."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.files.json_text import dump_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=VALUES)
def test_any_value_is_written_without_nan(value: object) -> None:
    """And reads as what it was, but for numbers that are not finite."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = dump_json(value)
    found = json.loads(text, parse_constant=refuse)
    assert "\n" not in text
    assert dump_json(found) == text
    if not isinstance(value, float) or math.isfinite(value):
        assert json.loads(dump_json([value], indent=1)) == [found]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_absent(number: float) -> None:
    """At any depth."""
    assert json.loads(dump_json({"a": [number, 1.5], "b": (number,)})) == {
        "a": [None, 1.5],
        "b": [None],
    }
