"""Laws of text files: byte order marks are no text, and broken texts are found."""

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.files.text import (
    find_broken_text,
    is_unicode,
    read_text,
    refuse_broken_text,
)

JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    """With or without one, the text is the same; one inside stays."""
    file = tmp_path / "a.txt"
    for mark in (b"", codecs.BOM_UTF8):
        file.write_bytes(mark + "Zoë \ufeff".encode())
        assert read_text(file) == "Zoë \ufeff"


@given(value=JSON)
def test_sound_values_pass(value: object) -> None:
    """Whatever can be written as UTF-8."""
    assert find_broken_text(value) is None
    refuse_broken_text(value)


@given(
    value=st.dictionaries(st.text("ab", min_size=1), JSON, min_size=1),
    half=st.integers(0xD800, 0xDFFF),
    around=st.text(),
)
def test_half_a_pair_is_found_by_its_field(
    value: dict[str, object], half: int, around: str
) -> None:
    """At any depth; a whole pair, which JSON spells in two halves, is a letter."""
    broken = f"{around}{chr(half)}"
    assert not is_unicode(broken)
    assert find_broken_text({**value, "z": [0, {"y": broken}]}) == "z.1.y"
    assert find_broken_text(broken) == ""
    assert find_broken_text({"k": {broken: 1}}) == "k"
    assert is_unicode(json.loads('"\\ud83d\\ude00"'))
    with pytest.raises(ValueError, match=r"^`z`: wants a text in Unicode, got half a"):
        refuse_broken_text({**value, "z": broken})
