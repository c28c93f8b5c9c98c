"""A stream of text in windows of bounded size, with the same limits every time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from editing.covariance.texts import Document, TextSource
from editing.models.loading import EditableModel
from editing.models.token_rows import TokenRow, tokenize_text

LONGEST_PIECE = 4096
"""Most tokens of one row, if the model's context is not shorter."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a text a window begins.

    Attributes:
        document: Number of the document.
        piece: Index of its piece; one past the last index is the end of the text.
        tokens: Tokens before it.
    """

    document: int = 0
    piece: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Rows in memory together, so that those of like length share a batch.

    Attributes:
        begin: Where it begins.
        rows: Each at most as long as the model's context.
        digest: SHA-256 of all documents up to the window's last; empty for a text that
            is determined without being read.
    """

    begin: Place
    rows: tuple[TokenRow, ...]
    digest: str


def read_windows(
    model: EditableModel,
    text: TextSource,
    size: int,
    limit: int | None = None,
    begin: Place | None = None,
) -> Iterator[Window]:
    """Tokenize a text into rows, in windows of at least `size` tokens.

    Documents longer than the context, or than `LONGEST_PIECE`, are split into pieces.
    One window and one document are in memory at a time.

    Args:
        model: The model whose tokenizer and context are used.
        text: What is read.
        size: Tokens after which a window ends.
        limit: Tokens after which the text ends, in the middle of a row if need be.
        begin: Where to continue; earlier documents are read for the digest alone.
    """
    place = begin or Place()
    reader = _Reader(model, text, place)
    rows: list[TokenRow] = []
    tokens, held = place.tokens, 0
    for after, row in reader:
        rows.append(row if limit is None else _cut(row, limit - tokens))
        held += len(rows[-1].ids)
        tokens += len(rows[-1].ids)
        if held >= size or tokens == limit:
            yield Window(place, tuple(rows), reader.digest)
            place = Place(*after, tokens)
            rows, held = [], 0
        if tokens == limit:
            return
    if rows:
        yield Window(place, tuple(rows), reader.digest)


def batch_rows(rows: tuple[TokenRow, ...], batch_tokens: int) -> Iterator[list[int]]:
    """Yield row numbers in batches of like length, of limited padded tokens.

    A row that is longer by itself is a batch of its own.
    """
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), index))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(rows[index].ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class _Reader:
    """The rows of a text from one place on, with the digest of what was read."""

    def __init__(self, model: EditableModel, text: TextSource, begin: Place) -> None:
        self._model, self._text, self._begin = model, text, begin
        self._digest = None if text.determined_by else hashlib.sha256()

    @property
    def digest(self) -> str:
        return "" if self._digest is None else self._digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[tuple[int, int], TokenRow]]:
        """Each row with the number of its document and of the piece after it."""
        begin = self._begin
        start = begin.document if self._digest is None else 0
        for number, document in enumerate(self._text.stream(start), start):
            if self._digest is not None:
                self._digest.update(_bytes_of(document))
            if number < begin.document:
                continue
            skipped = begin.piece if number == begin.document else 0
            pieces = cut_document(self._model, document)
            for piece, row in islice(enumerate(pieces), skipped, None):
                yield (number, piece + 1), row


def cut_document(model: EditableModel, document: Document) -> list[TokenRow]:
    """Tokenize a document into rows within the context; a blank one has no rows.

    White space alone is no text, nor are tokens that the tokenizer adds before it.
    """
    if isinstance(document, str) and not document.strip():
        return []
    ids = (
        tokenize_text(model.tokenizer, document).ids
        if isinstance(document, str)
        else document
    )
    size = min(model.longest_input, LONGEST_PIECE)
    cuts = [ids[start : start + size] for start in range(0, len(ids), size)]
    return [TokenRow(cut, len(cut) - 1) for cut in cuts]


def _cut(row: TokenRow, length: int) -> TokenRow:
    return row if len(row.ids) <= length else TokenRow(row.ids[:length], length - 1)


def _bytes_of(document: Document) -> bytes:
    held = document.encode() if isinstance(document, str) else repr(document).encode()
    return len(held).to_bytes(8, "big") + held
