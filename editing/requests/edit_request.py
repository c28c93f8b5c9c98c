"""Edit requests: the changes to the model's answers that a party asks for."""

import logging
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from pydantic import Field, model_validator

from editing.base.errors import EmptySourceError
from editing.base.errors import RequestError as RequestError
from editing.base.settings import Settings
from editing.base.validation import shorten
from editing.files.text import find_broken_text
from editing.requests.forms.fields import (
    Text,
    check_fields,
    spelled_number,
)
from editing.requests.forms.recognise import read_form
from editing.requests.forms.subjects import check_subject
from editing.requests.forms.zsre import ZsreTarget
from editing.requests.joining import TargetSpace
from editing.requests.normalise import normalise
from editing.requests.questions import BenchmarkQuestions, Questions
from editing.requests.questions import Question as Question
from editing.requests.records import read_records

logger = logging.getLogger(__name__)


class EditRequest(Settings):
    """One edit, with the prompts that evaluate it.

    Attributes:
        case_id: The request's number in its source.
        case_name: The source's own name for the case: a case number that is a text, or
            the case that several requests of MQuAKE share.
        prompt: Text with exactly one ``{}``, where the subject goes; a finished text if
            there is no subject.
        subject: What the edit is about; empty for a request without one, which editors
            that read at the subject refuse
            (`editing.requests.subjects.require_subject`).
        target_new: The continuation of the prompt that the edited model shall give.
        target_true: The unedited model's continuation; needed to measure success.
        locality: Questions about something else, whose answers shall stay (zsRE's
            ``loc``, KnowEdit's ``locality``).
        portability: Questions that follow from the edit (KnowEdit).
        benchmark_questions: What a benchmark's own metrics ask, as its program asks it.
        target_space: Whether a space is put between a prompt and what follows it: the
            targets, and the answers of questions.
    """

    case_id: int = Field(strict=True, ge=-(2**63), lt=2**63)
    prompt: str
    subject: str = ""
    target_new: str
    target_true: str | None = None
    relation_id: str | None = None
    paraphrase_prompts: tuple[str, ...] = ()
    neighborhood_prompts: tuple[str, ...] = ()
    attribute_prompts: tuple[str, ...] = ()
    generation_prompts: tuple[str, ...] = ()
    locality: Questions = ()
    portability: Questions = ()
    # Left out where there are none: digests of requests are those of versions before.
    benchmark_questions: BenchmarkQuestions = Field((), exclude_if=lambda own: not own)
    case_name: Text | None = None
    target_space: TargetSpace = "auto"

    @model_validator(mode="after")
    def _check_texts(self) -> "EditRequest":
        check_subject(self.prompt, self.subject, "subject" in self.model_fields_set)
        for field in ("prompt", "target_new"):
            if not getattr(self, field).strip():
                raise ValueError(f"`{field}` is empty")
        if self.target_true is not None and not self.target_true.strip():
            raise ValueError("`target_true` is empty; leave it out if it is not known")
        for field in _PROMPT_LISTS:
            if not all(text.strip() for text in getattr(self, field)):
                raise ValueError(f"`{field}` holds an empty text")
        return self

    @property
    def rewrite_prompt(self) -> str:
        """The prompt with the subject put in."""
        return self.prompt.replace("{}", self.subject) if self.subject else self.prompt

    @property
    def objects_agree(self) -> bool:
        """Whether the new object is the true one, in whatever spelling.

        Then no success can be measured, for it compares the two.
        """
        true = self.target_true
        return true is not None and normalise(true) == normalise(self.target_new)


def read_requests(
    source: Path | str,
    limit: int | None = None,
    zsre_target: ZsreTarget = "answers",
    skip: Collection[int] = (),
    target_space: TargetSpace = "auto",
) -> list[EditRequest]:
    """Read requests of any known form from a file, a folder or the hub.

    Nothing is skipped but what `skip` names: any other bad record stops the reading.
    Nothing after the limit is read.

    Args:
        source: As `editing.requests.records.read_records` takes it.
        limit: How many requests to read; all of them if None.
        zsre_target: Which field of zsRE's records is edited in.
        skip: Records to leave out, by the number that messages give: from 1, and in
            JSON Lines the line. All others keep their case numbers.
        target_space: Whether a space is put before targets, where a record does not say
            it itself.

    Raises:
        RequestError: If the source or a record cannot be read, there is none, or one
            that is to be left out; names file, line (or record number) and field.
    """
    records = _Kept(source, skip)
    read = islice(_stream(records, zsre_target, target_space), limit)
    found = _separate_numbers(list(read))
    if records.unmet and (limit is None or len(found) < limit):
        raise RequestError(
            f"{source}: has no record {min(records.unmet)}, which `skip` leaves out. "
            "Give numbers as messages do: from 1, and in JSON Lines the line."
        )
    if not found and limit != 0:
        raise EmptySourceError(f"{source}: holds no requests; wanted at least one.")
    if records.left_out:
        logger.warning("%s: left out %d record(s)", source, records.left_out)
    _warn_of_equal_objects(source, found)
    return found


MAX_CASES_NAMED = 10
"""Cases that a warning lists."""


def _warn_of_equal_objects(source: Path | str, requests: Sequence[EditRequest]) -> None:
    cases = [str(each.case_id) for each in requests if each.objects_agree]
    if cases:
        more = ", ..." if len(cases) > MAX_CASES_NAMED else ""
        logger.warning(
            "%s: new and true object are equal in %d case(s) (%s%s); they count in "
            "accuracies and in no success",
            source,
            len(cases),
            ", ".join(cases[:MAX_CASES_NAMED]),
            more,
        )


class _Kept:
    """A source's records without some of them, each counted with those left out."""

    def __init__(self, source: Path | str, skip: Collection[int]) -> None:
        self.source = source
        self.unmet, self.left_out, self._skip = set(skip), 0, frozenset(skip)

    def __iter__(self) -> Iterator[tuple[int, str, object]]:
        for index, (place, record) in enumerate(read_records(self.source)):
            number = int(re.findall(r"\d+$", place)[0]) if self._skip else 0
            if number not in self._skip:
                yield index, place, record
                continue
            self.left_out += 1
            self.unmet.discard(number)


def _stream(
    records: _Kept, zsre_target: ZsreTarget, target_space: TargetSpace
) -> Iterator[tuple[EditRequest, bool]]:
    """Read requests one by one, each with whether its record gives its number.

    Raises:
        RequestError: If two records give one case number.
    """
    seen: dict[int, str] = {}
    for index, place, record in records:
        for request in parse_record(record, place, index, zsre_target, target_space):
            given = request.case_id == _given_number(record)
            if given and request.case_id in seen:
                raise RequestError(
                    f"{place}: `case_id` {request.case_id} was used before, at "
                    f"{seen[request.case_id]}. Case numbers must differ."
                )
            if given:
                seen[request.case_id] = place
            yield request, given


def _given_number(record: object) -> int | None:
    """Return the case number that a record gives its one request."""
    several = isinstance(record, Mapping) and isinstance(
        record.get("requested_rewrite"), list
    )
    if several or not isinstance(record, Mapping):
        return None
    return spelled_number(record.get("case_id"))


MOVED_NUMBERS = 10**9
"""Added to a number made of a record's place that another record gives."""


def _separate_numbers(read: Sequence[tuple[EditRequest, bool]]) -> list[EditRequest]:
    """Keep given case numbers, and move those made of a record's place off them."""
    taken = {request.case_id for request, given in read if given}
    found = []
    for request, given in read:
        number = request.case_id
        if not given and number in taken:
            number += MOVED_NUMBERS
            while number in taken:
                number += 1
        taken.add(number)
        moved = number != request.case_id
        found.append(
            request.model_copy(update={"case_id": number}) if moved else request
        )
    return found


def parse_request(
    record: object,
    place: str,
    index: int = 0,
    zsre_target: ZsreTarget = "answers",
) -> EditRequest:
    """Turn one record that holds a single request into it; see `parse_record`.

    Raises:
        RequestError: If it holds several, as MQuAKE's do, or cannot be read.
    """
    found = parse_record(record, place, index, zsre_target)
    if len(found) > 1:
        raise RequestError(f"{place}: wanted one request, got {len(found)} rewrites.")
    return found[0]


def parse_record(
    record: object,
    place: str,
    index: int = 0,
    zsre_target: ZsreTarget = "answers",
    target_space: TargetSpace = "auto",
) -> list[EditRequest]:
    """Turn one record of any known form into its requests; all but MQuAKE have one.

    Args:
        record: A JSON value; its form follows from its fields.
        place: File and line, for messages.
        index: The case number of a record that has none, or one that is a text; see
            `from_mquake` for records of several requests.
        zsre_target: Which field of zsRE's records is edited in.
        target_space: Of requests whose record does not say it.

    Raises:
        RequestError: If the form is unknown, a field is missing, unknown or of the
            wrong kind, or a text holds half a surrogate pair.
    """
    try:
        check_record(record)
        assert isinstance(record, Mapping)
        shared = {"target_space": target_space}
        return [
            check_fields(EditRequest, shared | fields | _number(fields, index))
            for fields in read_form(record, zsre_target, index)
        ]
    except RequestError as error:
        raise RequestError(f"{place}: {error}") from None


def check_record(record: object) -> None:
    """Validate what a record of any form must be, before its form is looked at.

    Raises:
        RequestError: If it is not a JSON object, nests too deeply, or a text holds half
            a surrogate pair.
    """
    if not isinstance(record, Mapping):
        raise RequestError(f"wanted a JSON object, got {shorten(record)}.")
    try:
        field = find_broken_text(record)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if field is not None:
        named = f"`{field.encode('ascii', 'backslashreplace').decode():.80}`: "
        raise RequestError(
            f"{named if field else ''}wants a text in Unicode, got half a surrogate "
            "pair, as a text cut inside an emoji has."
        )


def _number(fields: Mapping[str, object], index: int) -> dict[str, object]:
    """Give a request its case number, and the name of a case that is a text."""
    given = fields.get("case_id")
    spelled = spelled_number(given) if isinstance(given, str) else None
    if spelled is not None:
        return {"case_id": spelled}
    if isinstance(given, str) and given.strip():
        return {"case_id": index, "case_name": given}
    return {"case_id": index} if given is None else {}


def sample_requests(
    requests: Sequence[EditRequest], count: int, seed: int
) -> list[EditRequest]:
    """Draw requests with distinct subjects, in an order fixed by the seed.

    Two requests on one subject can share a key and ask for two residuals; a draw has
    each subject once, as CounterFact does. Of requests without one it has each prompt
    once.

    Raises:
        RequestError: If there are fewer subjects than requests wanted.
    """
    order = list(range(len(requests)))
    random.Random(seed).shuffle(order)
    drawn: dict[str, EditRequest] = {}
    for index in order:
        if len(drawn) == count:
            break
        drawn.setdefault(_about(requests[index]), requests[index])
    if len(drawn) < count:
        raise RequestError(
            f"{count} requests with distinct subjects were asked for, and the source "
            f"has {len(drawn)} subjects. Lower `requests.limit` or the number of "
            "parties, rounds or requests per round."
        )
    return list(drawn.values())


def _about(request: EditRequest) -> str:
    return request.subject or request.prompt


def to_counterfact(request: EditRequest) -> dict[str, object]:
    """Write a request in CounterFact form; `parse_request` undoes it."""
    rewrite: dict[str, object] = {
        "prompt": request.prompt,
        "subject": request.subject,
        "target_new": {"str": request.target_new},
    }
    if request.target_true is not None:
        rewrite["target_true"] = {"str": request.target_true}
    if request.relation_id is not None:
        rewrite["relation_id"] = request.relation_id
    prompts = request.model_dump(include=set(_PROMPT_LISTS), mode="json")
    for field in ("locality", "portability", "benchmark_questions", "case_name"):
        if getattr(request, field):
            prompts |= request.model_dump(include={field}, mode="json")
    if request.target_space != "auto":
        prompts["target_space"] = request.target_space
    return {"case_id": request.case_id, "requested_rewrite": rewrite, **prompts}


_PROMPT_LISTS = (
    "paraphrase_prompts",
    "neighborhood_prompts",
    "attribute_prompts",
    "generation_prompts",
)
