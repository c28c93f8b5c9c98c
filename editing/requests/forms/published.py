"""The forms in which edit requests are published, each read by one function.

A function turns a record into the fields of
`editing.requests.edit_request.EditRequest`. Which form a record has is told by its
fields, record by record (`recognise`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from pydantic import Field

from editing.base.errors import RequestError
from editing.base.settings import Settings
from editing.base.validation import shorten
from editing.requests.forms.counterfact import from_counterfact
from editing.requests.forms.easyedit import (
    NewQuestion,
    ask,
    has_new_question,
    read_new_question,
)
from editing.requests.forms.fields import (
    Answers,
    Fields,
    Label,
    Single,
    Spellings,
    Template,
    Text,
    check_fields,
    without_nulls,
)

ZsreTarget: TypeAlias = Literal["answers", "alt"]
"""What zsRE's records ask for: the true answer (MEMIT) or the made-up one (MEND)."""


class _Zsre(Settings):
    subject: Text
    src: Text
    answers: tuple[str, ...] = ()
    alt: str | None = None
    rephrase: Text | None = None
    loc: Text | None = None
    loc_ans: Text | None = None
    portability: NewQuestion | None = None
    alternative_subject: object = None
    alter_subject_question: Text | None = None
    inverse_question: Text | None = Field(None, alias="inverse question")
    case_id: object = None
    pred: object = None
    cond: object = None


def from_zsre(
    record: Mapping[str, object], zsre_target: ZsreTarget = "answers"
) -> Fields:
    """MEND's split of zsRE (Mitchell et al., arXiv 2110.11309), read as MEMIT does.

    The prompt is the question ``src`` with the subject's first occurrence taken out.
    MEMIT and ROME edit in the first of ``answers``, the truth, and give
    ``<|endoftext|>`` for a true target, which none of their metrics reads; here there
    is none. MEND and EasyEdit edit in ``alt``, and the truth is the true target.
    ``loc`` becomes a question of locality, with the question mark that MEMIT adds.
    EasyEdit's further questions are of portability: ``alter_subject_question`` asks for
    what is edited in. ``New Question`` and ``inverse question``, whose answer is the
    subject, follow from ``alt``, so that they are asked only if it is edited in.

    Raises:
        RequestError: If `src` does not hold the subject, or a target is missing.
    """
    read = check_fields(_Zsre, record)
    wanted = {"answers": read.answers[:1], "alt": (read.alt,)}[zsre_target]
    if not wanted or wanted[0] is None or not wanted[0].strip():
        raise RequestError(
            f"`{zsre_target}` is empty or not there, and `zsre-target = "
            f'"{zsre_target}"` edits it in. Add it, or take the record out.'
        )
    truth = "".join(read.answers[:1]) if zsre_target == "alt" else ""
    prompt, subject = take_subject_out(read.src, read.subject, "src")
    return {
        **_number(read.case_id),
        "prompt": prompt,
        "subject": subject,
        "target_new": wanted[0],
        "target_true": truth if truth.strip() else None,
        "paraphrase_prompts": (read.rephrase,) if read.rephrase else (),
        "locality": _pair("loc", _ask(read.loc), "loc_ans", read.loc_ans),
        "portability": (
            *ask(read.alter_subject_question, wanted[0]),
            *(_follow_alt(read) if zsre_target == "alt" else ()),
        ),
    }


def _follow_alt(read: _Zsre) -> tuple[Fields, ...]:
    """The questions whose answers follow from the made-up one."""
    new = (read.portability.asked,) if read.portability else ()
    return (*new, *ask(read.inverse_question, read.subject))


def _ask(text: str | None) -> str | None:
    return text if text is None or text.endswith("?") else f"{text}?"


def _pair(
    first: str, prompt: str | None, second: str, answer: str | None
) -> tuple[Fields, ...]:
    """Make a question of two fields that come together or not at all."""
    if (prompt is None) != (answer is None):
        there, missing = (second, first) if prompt is None else (first, second)
        raise RequestError(f"`{missing}`: is missing or null beside `{there}`.")
    return () if prompt is None else ({"prompt": prompt, "answers": (answer,)},)


def _number(case_id: object) -> Fields:
    return {} if case_id is None else {"case_id": case_id}


class _Probe(Settings, extra="ignore"):
    prompt: Single
    ground_truth: Spellings


_Probes = Mapping[str, tuple[_Probe, ...]]


class _KnowEdit(Settings):
    subject: Text
    prompt: Text
    target_new: Text
    ground_truth: Spellings = ()
    rephrase: Answers = ()
    rephrase_prompt: Answers = ()
    portability: _Probes = Field(default_factory=dict)
    locality: _Probes = Field(default_factory=dict)
    locality_prompt: Text | None = None
    locality_ground_truth: Single | None = None
    case_id: object = None
    cond: object = None


class _WikiBio(Settings):
    concept: Text
    text: Text
    labels: Single
    portability: _Probes = Field(default_factory=dict)
    locality: _Probes = Field(default_factory=dict)
    case_id: object = None


def from_knowedit(record: Mapping[str, object]) -> Fields:
    """KnowEdit's parts wiki_recent, wiki_counterfact, ZsRE and WikiBio.

    (Zhang et al., arXiv 2401.01286; EasyEdit's short form of CounterFact, with
    ``locality_prompt`` and perhaps a ``New Question``, too.) The prompt is a finished
    text, out of which the subject's first occurrence is taken. WikiBio calls subject,
    prompt and target ``concept``, ``text`` and ``labels``. Probes of every kind become
    questions; of an answer's spellings any one will do, and a probe without an answer
    is left out, as EasyEdit does. The first ``ground_truth`` is the true target.
    """
    if {"concept", "text", "labels"} & record.keys():
        bio = check_fields(_WikiBio, record)
        prompt, subject = take_subject_out(bio.text, bio.concept, "text")
        return {
            **_number(bio.case_id),
            "prompt": prompt,
            "subject": subject,
            "target_new": bio.labels,
            "locality": _questions(bio.locality),
            "portability": _questions(bio.portability),
        }
    new = has_new_question(record.get("portability"))
    left = {key: record[key] for key in record if not (new and key == "portability")}
    read = check_fields(_KnowEdit, left)
    prompt, subject = take_subject_out(read.prompt, read.subject, "prompt")
    beside = _pair(
        "locality_prompt",
        read.locality_prompt,
        "locality_ground_truth",
        read.locality_ground_truth,
    )
    return {
        **_number(read.case_id),
        "prompt": prompt,
        "subject": subject,
        "target_new": read.target_new,
        "target_true": read.ground_truth[0] if read.ground_truth else None,
        "paraphrase_prompts": (*read.rephrase, *read.rephrase_prompt),
        "locality": (*_questions(read.locality), *beside),
        "portability": (
            read_new_question(record["portability"])
            if new
            else _questions(read.portability)
        ),
    }


def _questions(probes: _Probes) -> tuple[Fields, ...]:
    return tuple(
        {"prompt": probe.prompt, "answers": probe.ground_truth}
        for kind in probes.values()
        for probe in kind
        if probe.ground_truth
    )


def take_subject_out(text: str, subject: str, field: str) -> tuple[str, str]:
    """Put ``{}`` where a finished text names its subject for the first time.

    Whole words come before parts of words, and the exact spelling before one that
    differs in letters' cases or white space; the text's spelling is the subject's.

    Returns:
        The prompt, and the subject as the text has it: one put into the other is the
        text again.

    Raises:
        RequestError: If the text does not name the subject, or holds ``{}`` already.
    """
    exact = re.escape(subject)
    loose = r"\s+".join(map(re.escape, subject.split()))
    for pattern in (rf"(?<!\w){exact}(?!\w)", exact, f"(?i:{loose})"):
        found = re.search(pattern, text)
        if found and "{}" not in text:
            return f"{text[: found.start()]}{{}}{text[found.end() :]}", found.group()
    wrong = "holds {} already" if "{}" in text else "does not name the subject"
    raise RequestError(
        f"`{field}` {wrong}: {shorten(text)}, `subject` {shorten(subject)}. Spell the "
        "subject in both alike, or take the record out."
    )


class _Relation(Settings):
    id: str | None = None
    prompt: Template
    query: str | None = None
    label: str | None = None


class _Edit(Settings):
    relation: _Relation
    subject: Label
    new_object: Label
    object: Label
    conflict_object: Label | None = None


class _ConflictEdit(Settings):
    type: str | None = None
    edit: _Edit
    true_objects: tuple[Label, ...] = ()


def from_conflict_edit(record: Mapping[str, object]) -> Fields:
    """The right request of a record of ConflictEdit (Li et al., arXiv 2310.02129).

    It asks for ``new_object``; its true target is what the conflicting one asks for:
    ``conflict_object``, or ``object``, what was known before, where none is planted.
    Objects are texts, or have one under ``label``.
    """
    edit = check_fields(_ConflictEdit, record).edit
    query = edit.relation.query or ""
    rival = edit.object if edit.conflict_object is None else edit.conflict_object
    return {
        "prompt": edit.relation.prompt,
        "subject": edit.subject,
        "target_new": edit.new_object,
        "target_true": rival,
        "relation_id": edit.relation.id,
        "paraphrase_prompts": (
            (query.replace("{}", edit.subject),) if "{}" in query else ()
        ),
    }


def from_flat(record: Mapping[str, object]) -> Fields:
    """The fields of an `EditRequest` by name; `EditRequest` itself checks them."""
    return dict(record)


Reader: TypeAlias = Callable[[Mapping[str, object]], Fields]

_MARKS: dict[str, tuple[str, ...]] = {
    "CounterFact": ("requested_rewrite",),
    "ConflictEdit": ("edit", "true_objects"),
    "zsRE": (
        "src",
        "alt",
        "answers",
        "loc",
        "loc_ans",
        "pred",
        "alter_subject_question",
        "inverse question",
    ),
    "KnowEdit": (
        "ground_truth",
        "rephrase_prompt",
        "locality_prompt",
        "locality_ground_truth",
        "concept",
        "labels",
        "text",
    ),
}
"""Fields that one form has and no other."""

_PLAIN = ("prompt", "subject", "target_new")

_KNOWN = (
    "CounterFact (`requested_rewrite`), ConflictEdit (`edit`), zsRE (`src`, `answers`, "
    "`alt`), KnowEdit (`prompt`, `subject`, `target_new`, `locality` by kind; or "
    "`text`, `concept`, `labels`), flat (`prompt`, `subject`, `target_new`)"
)


def recognise(record: Mapping[str, object]) -> str:
    """Name a record's form: the one that alone has some of its fields.

    A record without any such field is KnowEdit's if it has ``rephrase`` or groups
    ``locality`` or ``portability`` by kind, and flat if it has a prompt, a subject or a
    target.

    Raises:
        RequestError: If it has the fields of several forms, or of none.
    """
    found = [name for name, marks in _MARKS.items() if record.keys() & set(marks)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"`{key:.30}`" for key in list(record)[:12]) or "none"
    if found:
        raise RequestError(
            f"has fields of {' and of '.join(found)} ({names}); wanted one form. "
            f"Known are {_KNOWN}."
        )
    if not record.keys() & set(_PLAIN):
        raise RequestError(f"has no known form. Its fields: {names}. Known: {_KNOWN}.")
    grouped = (record.get("locality"), record.get("portability"))
    if "rephrase" in record or any(isinstance(each, Mapping) for each in grouped):
        return "KnowEdit"
    return "flat"


def read_form(record: Mapping[str, object], zsre_target: ZsreTarget) -> Fields:
    """Turn a record of any known form into the fields of an `EditRequest`.

    A field that is null counts as one that is not there, for columns cannot tell them
    apart. What is wrong is a `RequestError`, which names the field as the record
    spells it.
    """
    given = {str(key): value for key, value in record.items()}
    bare = without_nulls(given)
    form = recognise(bare)
    if form == "zsRE":
        return from_zsre(bare, zsre_target)
    return _READERS[form](bare)


_READERS: dict[str, Reader] = {
    "CounterFact": from_counterfact,
    "ConflictEdit": from_conflict_edit,
    "KnowEdit": from_knowedit,
    "flat": from_flat,
}
