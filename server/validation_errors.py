"""One line about what is wrong with a setting.

Pydantic lists every fault it finds over several lines; a person needs the key as it is
written, what was wanted, what came, and the nearest thing that would do.
"""

import json
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from itertools import groupby

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

MOST = 3
PLAIN_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "model": "a table",
    "model_attributes": "a table",
    "dict": "a table",
}


def complain(
    error: ValidationError,
    settings: type[BaseModel],
    origin: Callable[[str], str],
    table: str = "",
) -> str:
    """Say in one line what is wrong.

    Args:
        error: What pydantic found.
        settings: The class that refused.
        origin: Says for a dotted key where it was written.
        table: The table that `settings` describes, if it is not the whole.
    """
    named = [(key_of(fault, settings, table), fault) for fault in error.errors()]
    named.sort(key=lambda pair: (pair[1]["type"] != "extra_forbidden", pair[0]))
    lines = [
        f"{origin(key)}: {describe(key, [fault for _, fault in faults], settings)}"
        for key, faults in groupby(named, key=lambda pair: pair[0])
    ]
    more = f" (and {len(lines) - MOST} more)" if len(lines) > MOST else ""
    return "; ".join(lines[:MOST]) + more


def key_of(fault: ErrorDetails, settings: type[BaseModel], table: str) -> str:
    """Write the place of a fault as people write keys, without pydantic's branches."""
    parts = [table] if table else []
    model: type[BaseModel] | None = settings
    for step in fault["loc"]:
        if model is None:
            break
        parts.append(str(step))
        model = inner_model(model.model_fields.get(str(step)))
    return ".".join(parts).replace("_", "-")


def inner_model(field: FieldInfo | None) -> type[BaseModel] | None:
    """Give the settings class of a table, nothing for a plain value."""
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def known_keys(settings: type[BaseModel]) -> Iterable[str]:
    """List the dotted keys of a settings class, tables included."""
    for name, field in settings.model_fields.items():
        key, model = name.replace("_", "-"), inner_model(field)
        yield key
        if model:
            yield from (f"{key}.{inner}" for inner in known_keys(model))


def describe(key: str, faults: list[ErrorDetails], settings: type[BaseModel]) -> str:
    """Say what was wanted, what came and what to try, for one key."""
    first = faults[0]
    if first["type"] == "extra_forbidden":
        return f"unknown key `{key}`; {suggest(key, settings)}"
    if first["type"] == "missing":
        return f"`{key}` is missing; it has no default"
    if first["type"] == "value_error":
        return f"`{key}`: {first['msg'].removeprefix('Value error, ')}"
    wanted = " or ".join(dict.fromkeys(map(wanted_by, faults)))
    got = json.dumps(first["input"], ensure_ascii=False, default=str)
    return f"`{key}`: wanted {wanted}, got {got}{near(faults)}"


def wanted_by(fault: ErrorDetails) -> str:
    """Say in plain words what one fault wanted."""
    kind, _, how = fault["type"].rpartition("_")
    if how in {"type", "parsing"} and kind in PLAIN_WORDS:
        return PLAIN_WORDS[kind]
    message = fault["msg"].removeprefix("Input should be ")
    bound = message.startswith(("greater", "less"))
    return f"a number {message}" if bound else message


def suggest(key: str, settings: type[BaseModel]) -> str:
    """Name the nearest known key, or all keys of the same table."""
    known = list(known_keys(settings))
    table, _, last = key.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == table]
    if not siblings:  # the settings of a merge, which know nothing of their table
        siblings = [f"{table}.{name}" for name in known]
    beside = {name.rpartition(".")[2]: name for name in siblings}
    close = [beside[name] for name in get_close_matches(last, beside, n=1)]
    elsewhere = {name.rpartition(".")[2]: name for name in known}
    close += [elsewhere[name] for name in get_close_matches(last, elsewhere, n=1)]
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known are {', '.join(siblings)}"


def near(faults: list[ErrorDetails]) -> str:
    """Name the nearest of the words that a setting may be."""
    words = [
        word.strip("'")
        for fault in faults
        if fault["type"] == "literal_error" and isinstance(fault["input"], str)
        for word in fault["ctx"]["expected"].replace(" or ", ", ").split(", ")
    ]
    close = get_close_matches(str(faults[0]["input"]), words, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
