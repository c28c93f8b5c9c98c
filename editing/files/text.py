r"""Text files that users write, read alike everywhere.

A byte order mark at the beginning is not part of the text. JSON can spell half of a
surrogate pair (``\ud83d``), as a text cut inside an emoji leaves it; no tokenizer and
no file takes such a text, so it is found here.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from editing.base.errors import InputError

UTF8 = "utf-8-sig"
"""The encoding to read with: UTF-8, with a byte order mark or without."""

_SURROGATE = re.compile("[\ud800-\udfff]")

MAX_DEPTH = 64
"""Levels of a value in a file; what nests deeper is refused."""

TOO_DEEP = "nested too deeply"
"""Said of a file in the place of the interpreter's words, which say nothing of it."""


def read_text(path: Path) -> str:
    """Read a UTF-8 file without its byte order mark, if it has one.

    An `OSError` or `UnicodeDecodeError` is left to the caller, who names the file.
    """
    return path.read_text(encoding=UTF8)


def parse_json(
    text: str,
    object_pairs_hook: Callable[[list[tuple[str, object]]], object] = dict,
    parse_constant: Callable[[str], object] | None = None,
) -> object:
    """Parse a JSON value whose texts are all sound.

    What is not JSON, nests too deeply or holds half a surrogate pair is a `ValueError`.
    """
    try:
        value: object = json.loads(
            text, object_pairs_hook=object_pairs_hook, parse_constant=parse_constant
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    refuse_broken_text(value)
    return value


def parse_toml(text: str) -> dict[str, object]:
    """Parse TOML; what is none, or nests too deeply, is a `ValueError`."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    refuse_broken_text(table)
    return table


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: it holds no half of a surrogate pair."""
    return text.isascii() or _SURROGATE.search(text) is None


def find_broken_text(value: object, depth: int = MAX_DEPTH) -> str | None:
    """Find the first text with half a surrogate pair in a JSON value.

    Returns:
        Its keys and list positions, joined by points (``""`` for the value itself);
        None if all texts are sound. A broken key is named by the object that has it.

    Raises:
        ValueError: If the value nests more than `depth` levels.
    """
    if isinstance(value, str):
        return None if is_unicode(value) else ""
    if not depth and isinstance(value, Mapping | list | tuple):
        raise ValueError(TOO_DEEP)
    if isinstance(value, Mapping):
        if not all(is_unicode(str(key)) for key in value):
            return ""
        entries = list(value.items())
    elif isinstance(value, list | tuple):
        entries = list(enumerate(value))
    else:
        return None
    for key, inner in entries:
        found = find_broken_text(inner, depth - 1)
        if found is not None:
            return f"{key}.{found}" if found else str(key)
    return None


def refuse_broken_text(value: object) -> None:
    """Refuse a JSON value that nests too deeply, or holds half a surrogate pair.

    Raises:
        ValueError: Naming the field of such a text.
    """
    field = find_broken_text(value)
    if field is not None:
        named = f"`{field}`: wants" if field else "wants"
        raise ValueError(f"{named} a text in Unicode, got half a surrogate pair")


def explain_text_error(error: Exception) -> str:
    """Say why a text is not of its format, for the end of a sentence."""
    return " ".join(str(error).split())


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        InputError: If it cannot be read, or holds something else.
    """
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8 ({error.reason}).") from None
    except ValueError as error:
        reason = explain_text_error(error)
        raise InputError(f"{path}: not JSON ({reason}).") from None


def read_json_object(path: Path) -> dict[str, object]:
    """Read one JSON object from a file.

    Raises:
        InputError: If the file is missing or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: wanted a JSON object, got {type(value).__name__}.")
    return value
