"""A study's pool of requests, fact by fact."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editing.requests.conflicts import read_conflicts
from editing.requests.edit_request import EditRequest, RequestError, read_requests
from editing.requests.forms.recognise import recognise
from editing.requests.records import read_records
from editing.sources.embedded import resolve_model, resolve_source
from server.config import RunConfig


@dataclass(frozen=True, slots=True)
class Fact:
    """What a request is about, whatever object it asks for."""

    subject: str
    relation: str


def fact_of(request: EditRequest) -> Fact:
    """Name a request's fact by its relation's id, or by its prompt if it has none."""
    return Fact(request.subject, request.relation_id or request.prompt)


def read_pool(config: RunConfig) -> list[EditRequest]:
    """Read the source that a scenario names; of ConflictEdit's files, both sides."""
    place = resolve_model(config.model.path)
    source = resolve_source(
        config.requests.source, place, "requests.json", "requests.source"
    )
    if not holds_conflicts(source):
        asked = config.requests
        return read_requests(
            source, asked.limit, asked.zsre_target, asked.skip, asked.target_space
        )
    if config.requests.skip:
        raise RequestError(f"{source}: `requests.skip` leaves out no conflicts.")
    pairs = read_conflicts(source, config.requests.limit, config.requests.target_space)
    return [each for pair in pairs for each in (pair.right, pair.conflicting)]


def holds_conflicts(source: Path) -> bool:
    """Whether a source's first record has ConflictEdit's form.

    A source that cannot be read has none; reading its requests reports the fault.
    """
    try:
        _, first = next(read_records(source), ("", None))
        return isinstance(first, Mapping) and recognise(first) == "ConflictEdit"
    except RequestError:
        return False


def facts_by_subject(
    pool: Sequence[EditRequest], draw: random.Random
) -> list[list[EditRequest]]:
    """Draw one request of each fact; a list a subject, subjects and facts in any order.

    A pool that asks for a fact in several wordings would otherwise have it twice.
    """
    order = sorted(pool, key=lambda request: request.case_id)
    draw.shuffle(order)
    chosen: dict[Fact, EditRequest] = {}
    for request in order:
        chosen.setdefault(fact_of(request), request)
    found: dict[str, list[EditRequest]] = {}
    for request in chosen.values():
        found.setdefault(request.subject, []).append(request)
    return list(found.values())
