"""Turns pydantic's validation errors into sentences that people can act on.

Each sentence names the field as the document spells it, what was wanted, what came, and
the nearest known name where one is misspelt.
"""

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

MAX_SHOWN_CHARACTERS = 60
"""Characters of a value that a message shows."""

MAX_SHOWN_FAULTS = 3
"""Faults that one message names."""

Location = tuple[int | str, ...]

SCALARS: Mapping[object, tuple[str, str]] = {
    str: ("a text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    Path: ("a path", "paths"),
}
"""How types are called, one and several."""

KINDS = {
    "int": "a whole number",
    "int_from": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
}
"""How the kinds that begin pydantic's error types are called."""


@dataclass(frozen=True, slots=True)
class Document:
    """The words for the parts of one kind of document.

    Attributes:
        field: A named value.
        table: A group of named values.
        missing: What is said of a value that is not there.
        hyphens: Whether names are written with hyphens.
    """

    field: str
    table: str
    missing: str
    hyphens: bool = False


RECORD = Document("field", "an object", "is missing or null")
SETTINGS = Document("key", "a table", "is missing", hyphens=True)
HYPERPARAMETERS = Document("key", "a table", "is missing")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        key: Where, dotted; empty for a fault of the whole.
        reason: What was wanted, what came and what to try, without a full stop.
    """

    key: str
    reason: str

    def __str__(self) -> str:
        """One clause."""
        return f"`{self.key}`: {self.reason}" if self.key else self.reason

    @property
    def sentence(self) -> str:
        """The clause with a full stop."""
        said = str(self)
        return said if said.endswith(("?", ".")) else f"{said}."


def explain(
    error: ValidationError,
    form: type[BaseModel] | None = None,
    document: Document = RECORD,
) -> str:
    """Explain the first fault in one sentence; see `find_faults`."""
    return find_faults(error, form, document)[0].sentence


def explain_all(
    faults: Sequence[Fault], origin: Callable[[str], str] | None = None
) -> str:
    """Explain the first few faults in one line.

    Args:
        faults: From `find_faults`.
        origin: Returns for a dotted key where it was written.
    """
    said = [
        f"{origin(fault.key)}: {fault}" if origin else str(fault)
        for fault in faults[:MAX_SHOWN_FAULTS]
    ]
    left = len(faults) - len(said)
    return "; ".join(said) + (f" (and {left} more)" if left > 0 else "")


def find_faults(
    error: ValidationError,
    form: type[BaseModel] | None = None,
    document: Document = RECORD,
    within: str = "",
) -> list[Fault]:
    """List what is wrong, a fault a key.

    Missing names come last, for a missing one may be there under a misspelt name.

    Args:
        error: What pydantic found.
        form: The class that refused, whose fields are known.
        document: What was read.
        within: The dotted key of the part that `form` describes; empty for the whole.
    """
    found = [
        (_place(fault["loc"], form), fault) for fault in error.errors(include_url=False)
    ]
    found.sort(key=lambda pair: pair[1]["type"] == "missing")
    faults = []
    for place, group in groupby(found, key=lambda pair: pair[0]):
        reasons = [fault for _, fault in group]
        key = _spell(place, document, within)
        faults.append(Fault(key, _explain(place, reasons, form, document, within)))
    return faults


def inner_model(field: FieldInfo | None) -> type[BaseModel] | None:
    """Return the settings class of a table, None for a plain value."""
    return _model_of(field.annotation) if field else None


def shorten(value: object) -> str:
    """Write a value for a message, in one line of at most `MAX_SHOWN_CHARACTERS`."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{reprlib.repr(value):.{MAX_SHOWN_CHARACTERS}}"


def suggest(name: str, known: Mapping[str, str]) -> str:
    """Suggest the nearest of some known names; empty if none is near.

    Args:
        name: The unknown name.
        known: What to suggest, by the name that `name` may be a misspelling of.
    """
    close = get_close_matches(name, known, n=1)
    return f"; did you mean `{known[close[0]]}`?" if close else ""


def _place(loc: Location, form: type[BaseModel] | None) -> Location:
    """Leave out of a fault's place what pydantic adds for the branches of a union."""
    kind: object = form
    for number, step in enumerate(loc):
        if len(_branches(kind)) > 1:
            return loc[:number]
        kind = _inside(_only(kind), step)
    return loc


def _explain(
    place: Location,
    faults: Sequence[ErrorDetails],
    form: type[BaseModel] | None,
    document: Document,
    within: str,
) -> str:
    first = faults[0]
    if first["type"] == "extra_forbidden":
        return f"unknown {document.field}{_guess(place, form, document, within)}"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    declared = _declared(place, form)
    if first["type"] == "missing":
        wanted = _describe(declared, document) or "a value"
        return f"{document.missing}; wanted {wanted}"
    return _compare(place, faults, declared, document)


def _compare(
    place: Location,
    faults: Sequence[ErrorDetails],
    declared: object,
    document: Document,
) -> str:
    """Write what was wanted and what came."""
    whole = min(faults, key=lambda fault: len(fault["loc"]))
    words = _describe(declared, document)
    if words and any(len(fault["loc"]) > len(place) + 1 for fault in faults):
        wanted = [words]  # something within one branch of several
    else:
        single = words if len(_branches(declared)) == 1 else ""
        wanted = [_wanted(fault, single, document) for fault in faults]
    got = shorten(whole["input"])
    if not all(wanted):
        said = whole["msg"]
        return f"{said[:1].lower()}{said[1:]}, got {got}"
    near = _nearest_literal(whole["input"], declared)
    return f"wanted {_either(wanted)}, got {got}{near}"


def _wanted(fault: ErrorDetails, declared: str, document: Document) -> str:
    """Return what one fault wanted; empty if pydantic says it in a sentence only."""
    kind, _, how = fault["type"].rpartition("_")
    if fault["type"] == "too_short":
        least = fault["ctx"]["min_length"]
        return "at least one entry" if least == 1 else f"at least {least} entries"
    if fault["type"] == "string_unicode":
        return "a text in Unicode"
    if how in {"type", "parsing", "float"} or kind == "literal":
        tables = {"model", "model_attributes", "dict", "mapping"}
        plain = document.table if kind in tables else KINDS.get(kind, "")
        if found := declared or plain:
            return found
    message = fault["msg"]
    wanted = message.removeprefix("Input should be ")
    if wanted == message:
        return ""
    return f"a number {wanted}" if wanted.startswith(("greater", "less")) else wanted


def _nearest_literal(value: object, declared: object) -> str:
    """Suggest the nearest of the words that a field may be."""
    if not isinstance(value, str):
        return ""
    words = [each for each in _literals(declared) if isinstance(each, str)]
    close = get_close_matches(value, words, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _guess(
    place: Location, form: type[BaseModel] | None, document: Document, within: str
) -> str:
    """Suggest a field of the same object, else of any table, else list the first."""
    name = _spell_one(place[-1], document)
    fields = _fields(_model_of(_declared(place[:-1], form)))
    siblings = {
        _spell_one(each, document): _spell((*place[:-1], each), document, within)
        for each in fields
    }
    others = {key.rpartition(".")[2]: key for key in _tables(form, document, within)}
    if guess := suggest(name, siblings) or suggest(name, others):
        return guess
    return f"; known are {', '.join(f'`{each}`' for each in siblings)}" * bool(siblings)


def _tables(
    form: type[BaseModel] | None,
    document: Document,
    within: str,
    around: tuple[object, ...] = (),
) -> Iterable[str]:
    """List the dotted keys of a settings class, tables included.

    A class that holds itself is listed once.
    """
    for name, field in _fields(form).items():
        key = _spell((name,), document, within)
        yield key
        inner = _model_of(field.annotation)
        if inner and inner not in (*around, form):
            yield from _tables(inner, document, key, (*around, form))


def _spell(place: Location, document: Document, within: str) -> str:
    steps = [_spell_one(step, document) for step in place]
    return ".".join([within, *steps] if within else steps)


def _spell_one(step: int | str, document: Document) -> str:
    name = " ".join(f"{step!s:.80}".split())
    return name.replace("_", "-") if document.hyphens else name


def _declared(place: Location, form: type[BaseModel] | None) -> object:
    """Return the annotation at a place; None if it is not known."""
    kind: object = form
    for step in place:
        kind = _inside(_only(kind), step)
    return kind


def _inside(kind: object, step: int | str) -> object:
    """Return the annotation of one step into an annotation; None if not known."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = _fields(kind).get(str(step))
        return field.annotation if field else None
    args = get_args(kind)
    origin = get_origin(kind)
    if origin in {tuple, list, frozenset, set} and args:
        return args[0]
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
        return args[1]
    return None


def _fields(form: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """Return the fields of a class by the names that documents use."""
    fields = form.model_fields if form else {}
    return {field.alias or name: field for name, field in fields.items()}


def _branches(kind: object) -> list[object]:
    """Return what an annotation may be, None left out and nesting undone."""
    if get_origin(kind) is Annotated:
        return _branches(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return [inner for each in get_args(kind) for inner in _branches(each)]
    return [] if kind is type(None) else [kind]


def _only(kind: object) -> object:
    """Return an annotation without ``Annotated`` and ``| None``; None for a union."""
    branches = _branches(kind)
    return branches[0] if len(branches) == 1 else None


def _model_of(kind: object) -> type[BaseModel] | None:
    found = _only(kind)
    is_model = isinstance(found, type) and issubclass(found, BaseModel)
    return found if is_model else None  # type: ignore[return-value]


def _literals(kind: object) -> list[object]:
    return [
        value
        for each in _branches(kind)
        if get_origin(each) is Literal
        for value in get_args(each)
    ]


def _describe(kind: object, document: Document) -> str:
    """Write in words what an annotation admits; empty if it may be anything."""
    words = [_describe_one(each, document) for each in _branches(kind)]
    return _either(words) if all(words) else ""


def _either(words: Sequence[str]) -> str:
    """Join alternatives, each of them once."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else last


def _describe_one(kind: object, document: Document) -> str:
    if kind in SCALARS:
        return SCALARS[kind][0]
    if _model_of(kind) or get_origin(kind) in {dict, Mapping}:
        return document.table
    if get_origin(kind) is Literal:
        return _either([shorten(each) for each in get_args(kind)])
    if get_origin(kind) in {tuple, list}:
        return f"a list of {_describe_several(get_args(kind)[0], document)}"
    return ""


def _describe_several(kind: object, document: Document) -> str:
    branches = _branches(kind)
    if len(branches) == 1 and branches[0] in SCALARS:
        return SCALARS[branches[0]][1]
    if len(branches) == 1 and _model_of(branches[0]):
        return f"{document.table.split()[-1]}s"
    if len(branches) == 1 and get_origin(branches[0]) in {tuple, list}:
        inner = _describe_several(get_args(branches[0])[0], document)
        return f"lists of {inner}"
    return "entries"
