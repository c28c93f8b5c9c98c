"""JSON written without NaN and infinity."""

import json
import math
from collections.abc import Mapping


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
