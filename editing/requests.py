"""Edit requests: what a party wants the model to say."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from editing.errors import InputError
from editing.settings import Settings


class RequestError(InputError):
    """A request that cannot be read, named by file, line and field."""


class Question(Settings):
    """A prompt that judges an edit, with answers of its own.

    Attributes:
        prompt: A finished text.
        answers: What may follow it; any one of them will do.
    """

    prompt: str
    answers: tuple[str, ...] = Field(min_length=1)


class EditRequest(Settings):
    """One edit, with the prompts that judge it.

    Attributes:
        prompt: Text with exactly one ``{}``, where the subject goes.
        target_new: What the edited model shall say after the prompt.
        target_true: What the unedited model says; needed to measure success.
        locality: Questions about something else, whose answers shall stay (zsRE's
            ``loc``, KnowEdit's ``locality``).
        portability: Questions that follow from the edit (KnowEdit).
    """

    case_id: int
    prompt: str
    subject: str
    target_new: str
    target_true: str | None = None
    relation_id: str | None = None
    paraphrase_prompts: tuple[str, ...] = ()
    neighborhood_prompts: tuple[str, ...] = ()
    attribute_prompts: tuple[str, ...] = ()
    generation_prompts: tuple[str, ...] = ()
    locality: tuple[Question, ...] = ()
    portability: tuple[Question, ...] = ()

    @model_validator(mode="after")
    def _check_texts(self) -> "EditRequest":
        if self.prompt.count("{}") != 1:
            raise ValueError(
                "`prompt` must hold exactly one {} for the subject, got "
                f"{self.prompt.count('{}')} in {self.prompt!r}"
            )
        for field in ("subject", "target_new"):
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
        return self.prompt.replace("{}", self.subject)


def read_requests(path: Path, limit: int | None = None) -> list[EditRequest]:
    """Read requests from JSON or JSON Lines, CounterFact or flat form.

    Nothing is skipped: the first bad record stops the reading.

    Raises:
        RequestError: If the file or a record cannot be read; names file, line (or
            place in the list) and field.
    """
    found: list[EditRequest] = []
    seen: dict[int, str] = {}
    for index, (place, record) in enumerate(_records(path)):
        if limit is not None and index >= limit:
            break
        request = parse_request(record, place, index)
        if request.case_id in seen:
            raise RequestError(
                f"{place}: `case_id` {request.case_id} was used before, at "
                f"{seen[request.case_id]}. Case numbers must differ."
            )
        seen[request.case_id] = place
        found.append(request)
    if not found:
        raise RequestError(f"{path}: holds no requests; wanted at least one.")
    return found


def parse_request(record: object, place: str, index: int = 0) -> EditRequest:
    """Turn one record into a request.

    Args:
        record: A JSON value in CounterFact or flat form.
        place: File and line, for messages.
        index: The case number of a record that has none.

    Raises:
        RequestError: If a field is missing, unknown or of the wrong kind.
    """
    if not isinstance(record, Mapping):
        raise RequestError(f"{place}: wanted a JSON object, got {record!r:.40}.")
    fields = {str(key): value for key, value in record.items()}
    rewrite = fields.pop("requested_rewrite", None)
    if rewrite is not None:
        fields = _flatten_counterfact(fields, rewrite, place)
    try:
        return EditRequest.model_validate({"case_id": index} | fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RequestError(
            f"{place}: {f'`{field}`: ' if field else ''}{reason}."
        ) from None


def sample_requests(
    requests: Sequence[EditRequest], count: int, seed: int
) -> list[EditRequest]:
    """Draw requests with distinct subjects, in an order fixed by the seed.

    Two requests on one subject can share a key and ask for two residuals; a draw has
    each subject once, as CounterFact does.

    Raises:
        RequestError: If there are fewer subjects than requests wanted.
    """
    order = list(range(len(requests)))
    random.Random(seed).shuffle(order)
    drawn: dict[str, EditRequest] = {}
    for index in order:
        if len(drawn) == count:
            break
        drawn.setdefault(requests[index].subject, requests[index])
    if len(drawn) < count:
        raise RequestError(
            f"{count} requests with distinct subjects were asked for, and the source "
            f"has {len(drawn)} subjects. Lower `requests.limit` or the number of "
            "parties, rounds or requests per round."
        )
    return list(drawn.values())


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
    for field in ("locality", "portability"):
        if getattr(request, field):
            prompts |= request.model_dump(include={field}, mode="json")
    return {"case_id": request.case_id, "requested_rewrite": rewrite, **prompts}


_PROMPT_LISTS = (
    "paraphrase_prompts",
    "neighborhood_prompts",
    "attribute_prompts",
    "generation_prompts",
)
# Bookkeeping that CounterFact's files carry and no editor reads.
_IGNORED = {"pararel_idx"}


def _flatten_counterfact(
    fields: dict[str, object], rewrite: object, place: str
) -> dict[str, object]:
    if not isinstance(rewrite, Mapping):
        raise RequestError(f"{place}: `requested_rewrite` is not an object.")
    flat = {k: v for k, v in fields.items() if k not in _IGNORED}
    for key, value in rewrite.items():
        if key in {"target_new", "target_true"}:
            if not (isinstance(value, Mapping) and isinstance(value.get("str"), str)):
                raise RequestError(
                    f'{place}: `requested_rewrite.{key}` wants {{"str": "..."}}, '
                    f"got {value!r:.40}."
                )
            flat[key] = value["str"]
        else:
            flat[str(key)] = value
    return flat


def _records(path: Path) -> Iterator[tuple[str, object]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not UTF-8 text ({error.reason}).") from None
    if path.suffix == ".jsonl":
        # Not `splitlines`, which also cuts at signs that JSON allows inside a string.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", _decode(line, f"{path}:{number}:")
        return
    value = _decode(text, f"{path}:")
    if not isinstance(value, list):
        raise RequestError(
            f"{path}: wanted a JSON list of requests, got {type(value).__name__}. "
            "One object a line needs the ending .jsonl."
        )
    for number, record in enumerate(value, start=1):
        yield f"{path}: record {number}", record


def _decode(text: str, place: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise RequestError(f"{place} not JSON ({error}).") from None
