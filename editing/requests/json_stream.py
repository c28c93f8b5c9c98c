"""A JSON list read element by element, without the whole file in memory.

``ijson`` reads such a list too, but silently writes ``?`` for half a surrogate pair,
refuses byte order marks, and gives no line and column for a fault.
"""

import json
from collections.abc import Iterator
from io import BufferedIOBase
from typing import NoReturn

from editing.base.errors import EmptySourceError, RequestError

CHUNK_BYTES = 1 << 16
"""Bytes read at once; doubled for an element that is longer."""

_SPACE = " \t\r\n"
_MARGIN_CHARACTERS = 64
"""Characters after a fault that show it is not the end of what was read so far."""


def decode_json(text: str, place: str) -> object:
    """Read one JSON value, such as a line of JSON Lines.

    Raises:
        RequestError: If it is none, or NaN, or too deep, or a number is too long.
    """
    try:
        value, end = _decode(text, len(text) - len(text.lstrip(_SPACE)))
        if rest := text[end:].lstrip(_SPACE):
            raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
        return value
    except json.JSONDecodeError as error:
        reason = f"{error.msg}: column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = _reason(error)
    raise RequestError(f"{place}: not JSON ({reason}).")


def decode_utf8(raw: bytes, place: str, *, first: bool) -> str:
    """Read bytes as UTF-8, at a file's beginning without a byte order mark.

    What is no UTF-8 is a `RequestError`.
    """
    try:
        return raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(place, error) from None


class JsonList:
    """The elements of a JSON list in a file, each with its place in front.

    Iterating reads the file in pieces, once. What is wrong is a `RequestError` that
    names the record in which it was found.
    """

    def __init__(self, stream: BufferedIOBase, name: str) -> None:
        """Read from `stream`, and call it `name` in messages and places."""
        self._window = _Window(stream)
        self._name = name
        self._count = 0

    def __iter__(self) -> Iterator[tuple[str, object]]:
        """Yield the place and the value of each element."""
        self._open()
        if self._peek() == "]":
            self._window.skip()
        else:
            while True:
                self._count += 1
                yield self._place(), self._value()
                if self._next(",]") == "]":
                    break
        if self._peek():
            self._refuse(self._window.describe("Extra data"))

    def _open(self) -> None:
        self._count = 1  # a fault here is one of the first record
        sign = self._peek()
        if not sign:
            raise EmptySourceError(f"{self._name}: is empty; holds no requests.")
        if sign != "[":
            kind = type(self._value()).__name__
            raise RequestError(
                f"{self._name}: wanted a JSON list of requests, got {kind}. "
                "One object a line needs the ending .jsonl."
            )
        self._window.skip()
        self._peek()
        self._count = 0

    def _next(self, wanted: str) -> str:
        sign = self._peek()
        if not sign or sign not in wanted:
            self._refuse(self._window.describe("Expecting ',' or ']'"))
        self._window.skip()
        return sign

    def _peek(self) -> str:
        try:
            return self._window.peek()
        except UnicodeDecodeError as error:
            raise _not_text(self._place(), error) from None

    def _value(self) -> object:
        try:
            return self._window.value()
        except UnicodeDecodeError as error:
            raise _not_text(self._place(), error) from None
        except (ValueError, RecursionError) as error:
            self._refuse(_reason(error))

    def _place(self) -> str:
        return f"{self._name}: record {self._count}"

    def _refuse(self, reason: str) -> NoReturn:
        raise RequestError(f"{self._place()}: not JSON ({reason}).")


class _Window:
    """The part of a text that is being read; earlier parts are dropped."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._text = ""
        self._start = 0
        self._line, self._column = 1, 1  # of the text's first character
        self._held = b""  # bytes that are not a whole character yet
        self._began = False
        self._fault: UnicodeDecodeError | None = None

    def peek(self) -> str:
        """The next character that is not white space; nothing at the end."""
        while True:
            rest = self._text
            while self._start < len(rest) and rest[self._start] in _SPACE:
                self._start += 1
            if self._start < len(rest):
                return rest[self._start]
            if not self._grow():
                return ""

    def skip(self) -> None:
        """Move past one character."""
        self._start += 1

    def value(self) -> object:
        """Read one JSON value; `JSONDecodeError` says where in the file it is wrong."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._start)
            except json.JSONDecodeError as error:
                if self._is_cut_off(error) and self._grow():
                    continue
                raise ValueError(self.describe(error.msg, error.pos)) from None
            if end + len("e-") >= len(self._text) and self._grow():
                continue  # a number may go on
            self._start = end
            return value

    def describe(self, reason: str, position: int | None = None) -> str:
        """Add the line and column, counted from 1, of a character of the text."""
        line, column = self._locate(self._start if position is None else position)
        return f"{reason}: line {line} column {column}"

    def _is_cut_off(self, error: json.JSONDecodeError) -> bool:
        unterminated = error.msg.startswith("Unterminated string")
        return unterminated or error.pos + _MARGIN_CHARACTERS > len(self._text)

    def _grow(self) -> bool:
        """Read on, at least as much as is held; False at the end of the file.

        `UnicodeDecodeError` if the next bytes are no UTF-8; all before them are read.
        """
        if self._fault is not None:
            raise self._fault
        raw = self._stream.read(max(CHUNK_BYTES, len(self._text) - self._start))
        grown = self._decode(raw)
        if not grown and self._fault is not None:
            raise self._fault
        if raw:
            self._line, self._column = self._locate(self._start)
            self._text, self._start = self._text[self._start :] + grown, 0
        return bool(raw)

    def _decode(self, raw: bytes) -> str:
        """Decode what can be; keep an unfinished character and a fault for later."""
        held = self._held + raw
        try:
            text, self._held = held.decode(), b""
        except UnicodeDecodeError as error:
            text, self._held = held[: error.start].decode(), held[error.start :]
            unfinished = error.end == len(held) and "end of data" in error.reason
            self._fault = None if unfinished and raw else error
        if text and not self._began:
            self._began = True
            return text.removeprefix("\ufeff")  # a byte order mark
        return text

    def _locate(self, position: int) -> tuple[int, int]:
        lines = self._text.count("\n", 0, position)
        if not lines:
            return self._line, self._column + position
        return self._line + lines, position - self._text.rfind("\n", 0, position)


def _decode(text: str, start: int) -> tuple[object, int]:
    """Read the value that begins at a place, and where it ends.

    WikiBigEdit's published files write ``NaN`` for a text that is not there, as pandas
    does; such a field of such a record is left out. Elsewhere it is a `ValueError`.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        value, end = _LENIENT.raw_decode(text, start)
        if not (isinstance(value, dict) and "update" in value):
            raise error
        return {key: each for key, each in value.items() if each is not _NAN}, end


_NAN = float("nan")


def _take_nan(name: str) -> float:
    return _NAN if name == "NaN" else _refuse_constant(name)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_LENIENT = json.JSONDecoder(parse_constant=_take_nan)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error).partition(";")[0]


def _not_text(place: str, error: UnicodeDecodeError) -> RequestError:
    return RequestError(f"{place}: not UTF-8 text ({error.reason}).")
