"""The kinds of fields that published requests have, and what is said of bad ones."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError

from editing.base.errors import RequestError
from editing.base.validation import explain, shorten

Fields: TypeAlias = dict[str, object]
"""Fields of a request or a question by name, not checked yet."""

Form = TypeVar("Form", bound=BaseModel)


def check_fields(form: type[Form], record: Mapping[str, object]) -> Form:
    """Validate a record.

    Raises:
        RequestError: If a field is missing, unknown or of the wrong kind; names it,
            what was wanted, what came, and the nearest known field.
    """
    try:
        return form.model_validate(record)
    except ValidationError as error:
        raise RequestError(explain(error, form)) from None


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def check_template(text: str) -> str:
    """Refuse a text without exactly one place for a subject.

    Raises:
        ValueError: Saying how many it has.
    """
    if text.count("{}") != 1:
        raise ValueError(
            f"must hold exactly one {{}} for the subject, got {text.count('{}')} in "
            f"{shorten(text)}"
        )
    return text


def number(case_id: object) -> Fields:
    """Give a record's case number, or nothing if it has none."""
    return {} if case_id is None else {"case_id": case_id}


def spelled_number(case_id: object) -> int | None:
    """The number that a record's case id is, or spells in digits; None for a text."""
    if isinstance(case_id, str):
        text = case_id.strip()
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None
    return case_id if isinstance(case_id, int) else None


def _read_case_name(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"wanted a number or a text, got {shorten(value)}")
    return str(value)


def want_list(example: str) -> Callable[[object], object]:
    """Refuse what is not a list, and show one that is wanted."""

    def check(value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError(
                f"wanted a list of objects such as {example}, got {shorten(value)}"
            )
        return value

    return check


def want_object(holding: str, example: str) -> Callable[[object], object]:
    """Refuse what is not an object, and show one that is wanted.

    Args:
        holding: How it holds its values, such as ``by kind``.
        example: A value that would do, as JSON.
    """

    def check(value: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(
                f"wanted an object {holding} such as {example}, got {shorten(value)}"
            )
        return value

    return check


def _read_object(value: object) -> object:
    text = value.get("str") if isinstance(value, Mapping) else None
    if not isinstance(text, str):
        raise ValueError(f'wants {{"str": "..."}}, got {shorten(value)}')
    return text


def _read_label(value: object) -> object:
    label = value.get("label") if isinstance(value, Mapping) else value
    if isinstance(label, str) and not label.strip():
        raise ValueError("is empty")
    if not isinstance(label, str):
        raise ValueError(f'wants a text or {{"label": "..."}}, got {shorten(value)}')
    return label


def _read_spellings(value: object) -> tuple[str, ...]:
    """Put texts, lists of texts, and lists of lists of spellings into one list.

    Those that say nothing are left out.

    Raises:
        ValueError: If there is something else than texts.
    """
    given = value if isinstance(value, list | tuple) else [value]
    flat: list[object] = []
    for each in given:
        flat.extend(each if isinstance(each, list | tuple) else [each])
    texts = [each for each in flat if isinstance(each, str)]
    if len(texts) < len(flat):
        odd = next(each for each in flat if not isinstance(each, str))
        within = " in it" if isinstance(value, list | tuple) else ""
        raise ValueError(f"wants a text or a list of texts, got {shorten(odd)}{within}")
    return tuple(dict.fromkeys(each for each in texts if each.strip()))


def _read_answers(value: object) -> tuple[str, ...]:
    found = _read_spellings(value)
    if not found:
        raise ValueError("is empty; wants a text or a list of texts")
    return found


def _read_single(value: object) -> object:
    """Take the one text of a list."""
    single = isinstance(value, list | tuple) and len(value) == 1
    return value[0] if single else value  # type: ignore[index]


def _read_optional(value: object) -> object:
    """Take ``""`` for a field that is not there, as null is."""
    return None if value == "" else value


Text = Annotated[str, AfterValidator(_check_text)]
OptionalText = Annotated[Text | None, BeforeValidator(_read_optional)]
Single = Annotated[Text, BeforeValidator(_read_single)]
Template = Annotated[Text, AfterValidator(check_template)]
StrObject = Annotated[Text, BeforeValidator(_read_object)]
Label = Annotated[str, BeforeValidator(_read_label)]
CaseName = Annotated[Text, BeforeValidator(_read_case_name)]
Answers = Annotated[tuple[str, ...], BeforeValidator(_read_answers)]
Spellings = Annotated[tuple[str, ...], BeforeValidator(_read_spellings)]


_DEPTH = 6
"""How deep nulls are looked for; no form nests deeper."""


def without_nulls(
    record: Mapping[str, object], depth: int = _DEPTH
) -> dict[str, object]:
    """Leave out what is null, at every depth; an element of a list stays."""
    return {
        key: _clean(value, depth - 1)
        for key, value in record.items()
        if value is not None
    }


def _clean(value: object, depth: int) -> object:
    if depth and isinstance(value, Mapping):
        return without_nulls(value, depth)
    if depth and isinstance(value, list | tuple):
        return [_clean(each, depth - 1) for each in value]
    return value
