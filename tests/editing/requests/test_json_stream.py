"""Laws of reading a JSON list in pieces: the same as reading it whole, and no more."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import editing.requests.json_stream as module
from editing.base.errors import RequestError
from editing.requests.json_stream import JsonList, decode_json, decode_utf8

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(-9e9, 9e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
CHUNKS = st.sampled_from([1, 2, 3, 7, 1 << 16])


def read_list(raw: bytes, chunk: int = 1 << 16) -> list[object]:
    """Read a list in pieces of some bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        return [value for _, value in JsonList(io.BytesIO(raw), "a.json")]


@given(
    values=st.lists(VALUES, max_size=4),
    chunk=CHUNKS,
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
    start=st.sampled_from([b"", b"\xef\xbb\xbf", b"\r\n ", b"\t"]),
)
def test_a_list_in_pieces_is_the_list(
    values: list[object],
    chunk: int,
    ascii_only: bool,
    indent: int | None,
    start: bytes,
) -> None:
    """However large the pieces, also where one ends inside a number or a letter."""
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    raw = start + text.replace("\n", "\r\n").encode("utf-8", "surrogatepass")
    if any(0xD800 <= ord(sign) < 0xE000 for sign in text):
        return  # no UTF-8
    assert read_list(raw + b"\r\n", chunk) == json.loads(text)


def test_places_count_the_records_from_1() -> None:
    """As messages and people do."""
    places = [place for place, _ in JsonList(io.BytesIO(b"[1, 22, 3]"), "a.json")]
    assert places == ["a.json: record 1", "a.json: record 2", "a.json: record 3"]


@given(
    values=st.lists(VALUES, min_size=1, max_size=3),
    cut=st.integers(0, 200),
    fault=st.sampled_from([b"", b"}", b",", b'"', b"tru", b"[[", b"nul ", b"\x01"]),
    chunk=CHUNKS,
)
def test_whoever_reads_the_whole_text_finds_the_same_fault(
    values: list[object], cut: int, fault: bytes, chunk: int
) -> None:
    """Where the whole text is wrong it is refused, at the same line and column."""
    whole = json.dumps(values, indent=1).encode()
    raw = whole[: 1 + cut % len(whole)] + fault
    try:
        expected = json.loads(raw)
    except json.JSONDecodeError as error:
        line, column = error.lineno, error.colno
    else:
        if isinstance(expected, list):
            assert read_list(raw, chunk) == expected
        return
    with pytest.raises(RequestError, match="not JSON") as caught:
        read_list(raw, chunk)
    place = str(caught.value).rpartition("line ")[2].rstrip(").")
    assert place == f"{line} column {column}"
    assert str(caught.value).startswith("a.json: record ")


def test_what_is_good_is_read_before_what_is_not() -> None:
    """A fault belongs to its record, though its bytes were read with earlier ones."""
    for rest in (b'"\xe9"]', b'"\xf0\x9f', b"nope]", b"3 4]", b"NaN]", b"[" * 10**6):
        elements = iter(JsonList(io.BytesIO(b"[1, 2, " + rest), "a.json"))
        assert [next(elements)[1] for _ in range(2)] == [1, 2]
        with pytest.raises(RequestError, match=r"^a\.json: record [34]?: not "):
            list(elements)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"^a\.json: is empty; holds no requests\.$"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (b'{"a": 1}', r"wanted a JSON list of requests, got dict\. .*\.jsonl"),
        (b'{"a": 1}\n{"a": 2}', r"got dict\. One object a line needs .*\.jsonl"),
        (b'"text"', "got str"),
        (b"[NaN]", "record 1: not JSON .*NaN is no number in JSON"),
        (b"[-Infinity]", "record 1: not JSON .*-Infinity is no number"),
        (b"[1] 2", "not JSON .*Extra data: line 1 column 5"),
        (b"[1", "record 1: not JSON"),
        (b"[1,]", "record 2: not JSON"),
        (b"\xff\xfe[\x00", "record 1: not UTF-8 text"),
        (b"[" + b"9" * 5000 + b"]", "record 1: not JSON .*Exceeds the limit"),
        (b"[" * 100_000, "record 1: not JSON .*nested too deeply"),
    ],
)
def test_a_bad_list_is_refused_in_one_line(raw: bytes, message: str) -> None:
    """With what was wanted, and where."""
    with pytest.raises(RequestError, match=message) as caught:
        read_list(raw)
    assert "\n" not in str(caught.value)


class Counting(io.BytesIO):
    """A stream that knows how much of it was asked for."""

    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Count."""
        assert size is not None
        assert size > 0
        self.asked += size
        return super().read(size)


def test_no_more_is_read_than_is_asked_for() -> None:
    """One piece for short records, and a long one is read a few times over."""
    stream = Counting(b"[1, " + b" " * 10**7)
    assert next(iter(JsonList(stream, "a.json"))) == ("a.json: record 1", 1)
    assert stream.asked <= 2 * module.CHUNK_BYTES
    text = json.dumps("x" * 10**6)
    stream = Counting(f"[{text}, {text}, {text}]".encode())
    assert sum(1 for _ in JsonList(stream, "a.json")) == 3
    assert stream.asked <= 12 * 10**6


def test_a_fault_in_the_middle_is_found_without_reading_to_the_end() -> None:
    """Only a text that does not end could be one that goes on."""
    stream = Counting(b"[1, {'a': 2}, " + b" " * 10**7)
    with pytest.raises(RequestError, match="record 2: not JSON"):
        list(JsonList(stream, "a.json"))
    assert stream.asked <= 2 * module.CHUNK_BYTES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"^here: not JSON \(Expecting property name .*: column 2\)\.$"),
        ("[Infinity]", r"^here: not JSON \(Infinity is no number in JSON\)\.$"),
        ("[" * 100_000, r"^here: not JSON \(nested too deeply\)\.$"),
        ("9" * 5000, r"^here: not JSON \(Exceeds the limit .*\)\.$"),
        ("{} {}", r"^here: not JSON \(Extra data: column 4\)\.$"),
    ],
)
def test_a_bad_value_is_refused_by_column(text: str, message: str) -> None:
    """Its line is the place's business."""
    with pytest.raises(RequestError, match=message):
        decode_json(text, "here")


@given(value=VALUES)
def test_a_good_value_is_read(value: object) -> None:
    """As the standard library writes it."""
    assert decode_json(json.dumps(value), "here") == value


def test_a_byte_order_mark_counts_at_the_beginning_alone() -> None:
    """Elsewhere it is a letter like others, and broken bytes are refused."""
    marked = b"\xef\xbb\xbfa"
    assert decode_utf8(marked, "here", first=True) == "a"
    assert decode_utf8(marked, "here", first=False) == "\ufeffa"
    with pytest.raises(RequestError, match=r"^here: not UTF-8 text \(invalid start"):
        decode_utf8(b"\xff", "here", first=True)
