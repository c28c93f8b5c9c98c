"""A text is cut into windows and batches at places that it alone determines."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import editing.covariance.windows
from editing.covariance.texts import Document, TextSource, text_of
from editing.covariance.windows import Window, batch_rows, cut_document, read_windows
from editing.models.token_rows import TokenRow
from tests.editing.models.test_token_rows import opening_tokenizer
from tests.tiny import WORDS, tiny_model

MODEL = tiny_model()
TEXTS = [" ".join(WORDS[:length]) for length in (3, 0, 9, 1, 5, 7, 2, 8)]
LONG = " ".join(WORDS[:60] * 3)


def windows(texts: list[str], size: int, limit: int | None = None) -> list[Window]:
    """Cut texts that are held."""
    return list(read_windows(MODEL, text_of(texts, "x"), size, limit))


def tokens_of(found: list[Window]) -> list[int]:
    """Concatenate all rows."""
    return [token for window in found for row in window.rows for token in row.ids]


@given(size=st.integers(1, 60), limit=st.none() | st.integers(1, 80))
def test_windows_hold_every_token_once_and_in_order(
    size: int, limit: int | None
) -> None:
    """Up to the limit, and each window is as small as it can be."""
    whole = [token for text in TEXTS for token in MODEL.tokenizer(text)["input_ids"]]
    found = windows(TEXTS, size, limit)
    assert tokens_of(found) == whole[:limit]
    for window in found[:-1]:
        held = [len(row.ids) for row in window.rows]
        assert sum(held) >= size > sum(held[:-1])


@given(size=st.integers(1, 60), number=st.integers(0, 8))
def test_a_window_can_be_cut_again_from_its_beginning(size: int, number: int) -> None:
    """With all after it, in documents as in pieces of one, and the same digests."""
    texts = [*TEXTS, LONG, *TEXTS]
    found = windows(texts, size, 200)
    begin = found[min(number, len(found) - 1)].begin
    again = list(read_windows(MODEL, text_of(texts, "x"), size, 200, begin))
    assert again == found[min(number, len(found) - 1) :]


def test_a_digest_is_of_every_document_read() -> None:
    """Also of those before the window, and where one ends and the next begins."""
    first = windows(TEXTS, 10)
    assert len({window.digest for window in first}) == len(first) > 2
    changed = windows([TEXTS[0] + " .", *TEXTS[1:]], 10)
    assert first[-1].digest != changed[-1].digest
    joined = windows(["ab", "c"], 9)[0].digest, windows(["a", "bc"], 9)[0].digest
    assert joined[0] != joined[1]


def test_a_text_that_is_known_without_being_read_is_not_read_again() -> None:
    """It starts at the window's document."""
    starts: list[int] = []

    def stream(start: int) -> Iterator[Document]:
        starts.append(start)
        yield from [(number, 1, 2) for number in range(start, 9)]

    text = TextSource("counted", stream, "numbers")
    found = list(read_windows(MODEL, text, 6))
    assert [window.digest for window in found] == [""] * 5
    assert list(read_windows(MODEL, text, 6, begin=found[2].begin)) == found[2:]
    assert starts == [0, 3]


def test_documents_are_cut_to_the_model_s_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or to a length that memory allows, if that is shorter."""
    ids = MODEL.tokenizer(LONG)["input_ids"]
    rows = cut_document(MODEL, LONG)
    assert [len(row.ids) for row in rows] == [64, 64, len(ids) - 128]
    assert [token for row in rows for token in row.ids] == ids
    assert cut_document(MODEL, tuple(ids)) == rows
    monkeypatch.setattr(editing.covariance.windows, "LONGEST_PIECE", 50)
    assert [len(row.ids) for row in cut_document(MODEL, LONG)] == [50, 50, 50, 30]
    assert cut_document(MODEL, "") == []


@pytest.mark.parametrize("blank", ["", " ", "\t\u00a0\n"])
def test_a_blank_document_has_no_rows(blank: str) -> None:
    """Not even one of the token that a tokenizer puts in front of every text."""
    model = replace(MODEL, tokenizer=opening_tokenizer())
    assert len(model.tokenizer(blank)["input_ids"]) == 1
    assert cut_document(model, blank) == []
    assert [len(row.ids) for row in cut_document(model, "the map")] == [3]


@given(
    lengths=st.lists(st.integers(1, 20), max_size=30), batch_tokens=st.integers(1, 60)
)
def test_batches_hold_every_row_once_and_stay_below_their_size(
    lengths: list[int], batch_tokens: int
) -> None:
    """Padding counted; only a row that is longer by itself is larger."""
    rows = tuple(TokenRow(tuple(range(length)), length - 1) for length in lengths)
    batches = list(batch_rows(rows, batch_tokens))
    assert sorted(index for batch in batches for index in batch) == list(
        range(len(rows))
    )
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= batch_tokens or len(batch) == 1
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest == sorted(longest)
