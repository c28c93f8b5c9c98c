"""Requests that contradict each other: ConflictEdit's files, and planted ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from editing.requests.edit_request import EditRequest, RequestError, check_record
from editing.requests.forms.conflictedit import from_conflict_edit
from editing.requests.forms.fields import check_fields, without_nulls
from editing.requests.joining import TargetSpace
from editing.requests.normalise import normalise
from editing.requests.records import read_records


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


def read_conflicts(
    source: Path | str, limit: int | None = None, target_space: TargetSpace = "auto"
) -> list[ConflictPair]:
    """Read ConflictEdit's records; one bad record stops the reading.

    The right request asks for ``new_object``. The conflicting one asks for
    ``conflict_object``, or for ``object``, what was known before, in files that plant
    none. Record ``i``, from 0, makes the case numbers ``2i`` and ``2i + 1``, so that
    both sides can be edited in one run.

    Args:
        source: As `editing.requests.records.read_records` takes it.
        limit: How many records to read; all of them if None.
        target_space: Whether a space is put before targets.

    Raises:
        RequestError: If the source cannot be read or holds nothing; a bad record is
            refused by file, line or record number, and field.
    """
    records = islice(read_records(source), limit)
    pairs = [
        parse_conflict(record, place, index, target_space)
        for index, (place, record) in enumerate(records)
    ]
    if not pairs:
        raise RequestError(f"{source}: holds no records of ConflictEdit.")
    return pairs


def parse_conflict(
    record: object, place: str, index: int = 0, target_space: TargetSpace = "auto"
) -> ConflictPair:
    """Turn one record into its two requests.

    Args:
        record: A JSON value in ConflictEdit's form.
        place: File and record number, for messages.
        index: The record's place in its source, for the case numbers.
        target_space: Whether a space is put before targets.

    Raises:
        RequestError: If a field is missing, unknown or of the wrong kind.
    """
    try:
        check_record(record)
        assert isinstance(record, Mapping)
        fields = from_conflict_edit(without_nulls(record))
        shared = {"case_id": 2 * index, "target_space": target_space}
        right = check_fields(EditRequest, {**shared, **fields})
    except RequestError as error:
        raise RequestError(f"{place}: {error}") from None
    opposed = str(right.target_true)
    return ConflictPair(right, _oppose(right, opposed, 2 * index + 1))


def conflicting(request: EditRequest, target_new: str, case_id: int) -> EditRequest:
    """Ask for another object of the same subject and relation.

    The true target stays, and so do the prompts that evaluate it, but for attribute
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


def _oppose(request: EditRequest, target_new: str, case_id: int) -> EditRequest:
    changes: dict[str, object] = {
        "case_id": case_id,
        "target_new": target_new,
        "attribute_prompts": (),
        "benchmark_questions": (),
    }
    true = request.target_true
    if true is not None and normalise(true) == normalise(target_new):
        changes |= {"target_true": request.target_new, "neighborhood_prompts": ()}
    return request.model_copy(update=changes)
