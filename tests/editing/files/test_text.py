"""Laws of text files: byte order marks are no text, and broken texts are found."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.base.errors import InputError
from editing.covariance.texts import open_text
from editing.files.text import (
    MAX_DEPTH,
    find_broken_text,
    is_unicode,
    parse_json,
    parse_toml,
    read_json_object,
    read_text,
    refuse_broken_text,
)
from editing.hyperparameters.config import read_context_templates
from editing.hyperparameters.files import read_hyperparameters
from editing.requests.edit_request import read_requests
from editing.requests.paraphrases import read_templates
from server.evaluation import read_held_out
from server.tables import read_tables
from strategies.conflicts.blind_tokens import KEY_BYTES, read_key
from tests.tiny import tiny_model

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


@pytest.mark.parametrize("parse", [parse_json, lambda t: parse_toml(f"a = {t}")])
def test_what_nests_too_deeply_is_refused(parse: Callable[[str], object]) -> None:
    """Whether or not the interpreter itself gives up."""
    for levels in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse("[" * levels + "]" * levels)
    parse("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "wanted a JSON object, got list"),
        ("{", "not JSON"),
        ('{"a": "\\ud83d"}', "half a surrogate pair"),
        ("[" * 100_000, r"not JSON \(nested too deeply\)\.$"),
    ],
)
def test_what_is_not_a_json_object_is_refused_by_file(
    tmp_path: Path, text: str, said: str
) -> None:
    """And one with a byte order mark is read."""
    file = tmp_path / "some.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"some\.json: .*{said}"):
        read_json_object(file)
    file.write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json_object(file) == {"a": 1}
    file.write_text('{"a": 1}', encoding="utf-16")
    with pytest.raises(
        InputError, match=r"some\.json: is no text in UTF-8 \(inv.*\)\.$"
    ):
        read_json_object(file)
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        read_json_object(tmp_path / "none.json")


MODEL = tiny_model()

READERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "scenario": ("a.toml", read_tables, '[run]\nname = "a"\n'),
    "requests": (
        "a.json",
        read_requests,
        '[{"prompt": "{} is", "subject": "Zoë", "target_new": "a"}]',
    ),
    "lines of requests": (
        "a.jsonl",
        read_requests,
        '{"prompt": "{} is", "subject": "Zoë", "target_new": "a"}\n',
    ),
    "hyperparameters": ("a.json", read_hyperparameters, '{"layers": [3]}'),
    "hyperparameters in YAML": ("a.yaml", read_hyperparameters, "layers: [3]\n"),
    "hyperparameters in TOML": ("a.toml", read_hyperparameters, "layers = [3]\n"),
    "context templates": ("a.json", read_context_templates, '["{}", "Zoë. {}"]'),
    "phrasings": ("a.json", read_templates, '{"P1": ["{} is"]}'),
    "held-out facts": ("a.json", read_held_out, '[{"prompt": "a", "answer": "b"}]'),
    "text": (
        "a.txt",
        lambda file: [*open_text(str(file), MODEL, "").stream(0)],
        "Zoë is here.\n",
    ),
    "lines of text": (
        "a.jsonl",
        lambda file: [*open_text(str(file), MODEL, "").stream(0)],
        '{"text": "Zoë is here."}\n',
    ),
    "key": ("a.key", read_key, "ab" * KEY_BYTES + "\n"),
}
"""Files that users write: a name, what reads it, and what is in it."""


@pytest.mark.parametrize("kind", READERS)
def test_every_file_is_read_with_and_without_a_byte_order_mark(
    kind: str, tmp_path: Path
) -> None:
    """And comes to the same."""
    name, read, text = READERS[kind]
    file = tmp_path / name
    file.write_bytes(text.encode())
    plain = read(file)
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    assert read(file) == plain


BROKEN = "cut \\ud83d"
"""Half of a surrogate pair, as JSON spells it."""


@pytest.mark.parametrize(
    ("name", "read", "text", "field"),
    [
        ("a.json", read_context_templates, f'["{{}}", "{BROKEN} {{}}"]', "`1`"),
        ("a.json", read_templates, f'{{"P1": ["{BROKEN} {{}}"]}}', "`P1.0`"),
        ("a.json", read_hyperparameters, f'{{"a": "{BROKEN}"}}', "`a`"),
        (
            "a.jsonl",
            lambda file: [*open_text(str(file), MODEL, "").stream(0)],
            f'{{"text": "{BROKEN}"}}',
            "record 1: `text`",
        ),
    ],
)
def test_half_a_pair_is_refused_in_every_json_file(
    name: str, read: Callable[[Path], object], text: str, field: str, tmp_path: Path
) -> None:
    """By file and field, as any bad input is."""
    file = tmp_path / name
    file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=f"{field}.? ?wants a text in") as caught:
        read(file)
    assert str(file) in str(caught.value)
    str(caught.value).encode()
