"""Requests that contradict each other: ConflictEdit's files, and planted ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationError

from editing.requests import EditRequest, RequestError
from editing.settings import Settings
from editing.tokens import normalise


@dataclass(frozen=True, slots=True)
class ConflictPair:
    """Two requests on one subject and prompt; each one's true target is the other's.

    Attributes:
        right: What shall be known in the end.
        conflicting: What another party asks for instead.
    """

    right: EditRequest
    conflicting: EditRequest

    @property
    def contradicts(self) -> bool:
        """Whether the two ask for different things; some published records do not."""
        right, conflicting = self.right.target_new, self.conflicting.target_new
        return normalise(right) != normalise(conflicting)


def read_conflicts(path: Path, limit: int | None = None) -> list[ConflictPair]:
    """Read ConflictEdit's JSON list; one bad record stops the reading.

    The right request asks for ``new_object``. The conflicting one asks for
    ``conflict_object``, or for ``object``, what was known before, in files that plant
    none. Record ``i``, from 0, makes the case numbers ``2i`` and ``2i + 1``, so that
    both sides can be edited in one run.

    Raises:
        RequestError: If the file holds no list or nothing; a bad record is refused by
            file, record number and field.
    """
    records = _read_json(path)
    if not isinstance(records, list) or not records:
        raise RequestError(
            f"{path}: wanted a JSON list of ConflictEdit's records, at least one, got "
            f"{records!r:.40}."
        )
    return [
        parse_conflict(record, f"{path}: record {index + 1}", index)
        for index, record in enumerate(records[:limit])
    ]


def parse_conflict(record: object, place: str, index: int = 0) -> ConflictPair:
    """Turn one record into its two requests.

    Args:
        record: A JSON value in ConflictEdit's form.
        place: File and record number, for messages.
        index: Where the record stands, for the case numbers.

    Raises:
        RequestError: If a field is missing, unknown or of the wrong kind.
    """
    if not isinstance(record, Mapping):
        raise RequestError(f"{place}: wanted a JSON object, got {record!r:.40}.")
    try:
        edit = _Record.model_validate(record).edit
        rival = edit.object if edit.conflict_object is None else edit.conflict_object
        right = _write_request(edit, rival, 2 * index)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "edit.relation"
        reason = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{place}: `{field}`: {reason}.") from None
    return ConflictPair(right, _oppose(right, rival, 2 * index + 1))


def conflicting(request: EditRequest, target_new: str, case_id: int) -> EditRequest:
    """Ask for another object of the same subject and relation.

    The true target stays, and so do the prompts that judge an edit, but for attribute
    prompts, which are about the old object. If the true target itself is asked for, the
    request's object takes its place, and neighbourhood prompts, which rest on what is
    true, are dropped.

    Args:
        request: The request that is contradicted; it is left as it is.
        target_new: What to ask for instead.
        case_id: The new request's number.

    Raises:
        RequestError: If that is nothing, or what the request asks for.
    """
    if not target_new.strip() or normalise(target_new) == normalise(request.target_new):
        raise RequestError(
            f"case {request.case_id}: asking for {target_new!r} contradicts no request "
            f"for {request.target_new!r}; wanted another object."
        )
    return _oppose(request, target_new, case_id)


def _read_label(value: object) -> object:
    label = value.get("label") if isinstance(value, Mapping) else value
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f'wants a text or {{"label": "..."}}, got {value!r:.40}')
    return label


_Label = Annotated[str, BeforeValidator(_read_label)]


class _Relation(Settings):
    id: str | None = None
    prompt: str
    query: str | None = None
    label: str | None = None


class _Edit(Settings):
    relation: _Relation
    subject: _Label
    new_object: _Label
    object: _Label
    conflict_object: _Label | None = None


class _Record(Settings):
    type: str | None = None
    edit: _Edit
    true_objects: tuple[_Label, ...] = ()


def _write_request(edit: _Edit, rival: str, case_id: int) -> EditRequest:
    query = edit.relation.query or ""
    paraphrases = (query.replace("{}", edit.subject),) if "{}" in query else ()
    return EditRequest(
        case_id=case_id,
        prompt=edit.relation.prompt,
        subject=edit.subject,
        target_new=edit.new_object,
        target_true=rival,
        relation_id=edit.relation.id,
        paraphrase_prompts=paraphrases,
    )


def _oppose(request: EditRequest, target_new: str, case_id: int) -> EditRequest:
    changes: dict[str, object] = {
        "case_id": case_id,
        "target_new": target_new,
        "attribute_prompts": (),
    }
    true = request.target_true
    if true is not None and normalise(true) == normalise(target_new):
        changes |= {"target_true": request.target_new, "neighborhood_prompts": ()}
    return request.model_copy(update=changes)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise RequestError(f"{path}: not JSON ({error}).") from None
