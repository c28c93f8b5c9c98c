"""JSON: read from files that users write, and written without NaN and infinity."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from editing.base.errors import InputError
from editing.files.text import parse_json, read_text


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        InputError: If the file cannot be read or is not JSON.
    """
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}).") from None


def read_json_object(path: Path) -> dict[str, object]:
    """Read one JSON object from a file.

    Raises:
        InputError: If the file cannot be read or holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: wanted a JSON object, got {type(value).__name__}.")
    return value


def dump_json(value: object, indent: int | None = None) -> str:
    """Write a value as JSON; numbers that are not finite are absent, so null.

    Args:
        value: Mappings, sequences, texts, numbers, flags and None.
        indent: Spaces of each level; None writes one line.
    """
    return json.dumps(
        _without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False
    )


def _without_nan(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value
